import { join } from 'node:path'
import { fromUtf8 } from '../base/bytes.ts'
import { type Config, type ModelEntry, parseConfig } from '../base/config.ts'
import { LlmNodeError } from '../base/errors.ts'
import { downloadLimits } from '../base/limits.ts'
import { formatSpan, parseSpan, type Span } from '../base/span.ts'
import { parseModelConfig } from '../model/config.ts'
import type { ModelSpec } from '../model/spec.ts'
import { type DownloadProgress, downloadModel } from '../shard/download.ts'
import type { Holding } from '../shard/holding.ts'
import { parseRecipe } from '../shard/recipe.ts'
import type { ModelSource } from '../shard/source.ts'
import { type Home, prepareHome, saveConfig } from './home.ts'
import { assertHoldable } from './memory-check.ts'
import { modelName, openSource } from './model-source.ts'
import { detectMemoryShare } from './share.ts'

export interface SetupOptions {
  /** As the user writes it: a repository, an http(s) folder, a folder. */
  readonly model: string
  /** "all", "none" or a range, "4-7". */
  readonly layers: string
  readonly ends: boolean
  readonly recipe: ModelEntry['recipe']
  /** Names this machine to the server, for its statistics. */
  /** Chosen by hand: the node stays with these layers. */
  readonly pinned?: boolean | undefined
  readonly clientName?: string | undefined
  readonly signal: AbortSignal
  readonly onProgress?: (progress: DownloadProgress) => void
}

export interface SetupResult {
  readonly entry: ModelEntry
  readonly holding: Holding
}

/**
 * Fetches what the node shall hold of a model and writes it into the home's configuration, in place of what it said of
 * this model before. Throws what the download throws, BAD_INPUT, HOME_UNUSABLE.
 */
export async function setupModel(home: Home, config: Config, options: SetupOptions): Promise<SetupResult> {
  await prepareHome(home)
  const source = await openSource(options.model, { clientName: options.clientName, share: config.share })
  const spec = await readSpec(source, options.signal)
  const span = resolveLayers(options.layers, spec)
  if (span === null && !options.ends) {
    throw new LlmNodeError('BAD_INPUT', 'Without layers and without the ends there is nothing to hold.', {
      hint: 'Give --layers 4-7 to serve layers, or --ends to ask.',
    })
  }
  const name = modelName(source.id, spec)
  const { totalBytes } = await detectMemoryShare(config)
  const recipe = parseRecipe(options.recipe)
  assertHoldable({ name, spec, recipe, span }, { ends: options.ends, memoryBytes: totalBytes })
  const folder = `${name}-${options.recipe}`
  const holding = await downloadModel({
    source,
    folder: join(home.modelsFolder, folder),
    recipe,
    span,
    ends: options.ends,
    signal: options.signal,
    ...(options.onProgress ? { onProgress: options.onProgress } : {}),
  })
  const entry: ModelEntry = {
    name,
    source: source.id,
    recipe: options.recipe,
    layers: span === null ? null : formatSpan(span),
    ends: options.ends,
    folder,
    pinned: options.pinned ?? false,
  }
  const others = config.models.filter((model) => model.folder !== folder)
  await saveConfig(home, parseConfig({ ...config, models: [...others, entry] }))
  return { entry, holding }
}

function resolveLayers(layers: string, spec: ModelSpec): Span | null {
  if (layers === 'none') return null
  const span = layers === 'all' ? { start: 0, end: spec.nLayers } : parseSpan(layers)
  if (span.end <= spec.nLayers) return span
  throw new LlmNodeError('BAD_INPUT', `The model has ${spec.nLayers} layers; ${formatSpan(span)} is not among them.`, {
    hint: `Choose from 0-${spec.nLayers - 1}.`,
  })
}

async function readSpec(source: ModelSource, signal: AbortSignal): Promise<ModelSpec> {
  const bytes = await source.readFile('config.json', { maxBytes: downloadLimits.configBytes, signal })
  if (bytes !== null) return parseModelConfig(parseJson(fromUtf8(bytes), source.id))
  throw new LlmNodeError('MODEL_NOT_FOUND', `${source.id} has no config.json.`, {
    hint: 'Check the name of the model.',
  })
}

function parseJson(text: string, id: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new LlmNodeError('MODEL_CORRUPT', `config.json of ${id} is not JSON.`, { cause })
  }
}
