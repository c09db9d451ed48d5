import { join } from 'node:path'
import { fromUtf8 } from '../base/bytes.ts'
import { type Config, type ModelEntry, parseConfig } from '../base/config.ts'
import { LlmNodeError } from '../base/errors.ts'
import { downloadLimits } from '../base/limits.ts'
import { formatSpan, parseSpan, type Span } from '../base/span.ts'
import { parseModelConfig } from '../model/config.ts'
import { type DownloadProgress, downloadModel } from '../shard/download.ts'
import type { Holding } from '../shard/holding.ts'
import { openModelSource } from '../shard/open-source.ts'
import { parseRecipe } from '../shard/recipe.ts'
import type { ModelSource } from '../shard/source.ts'
import { type Home, prepareHome, saveConfig } from './home.ts'

export interface SetupOptions {
  /** As the user writes it: a repository, an http(s) folder, a folder. */
  readonly model: string
  /** "all", "none" or a range, "4-7". */
  readonly layers: string
  readonly ends: boolean
  readonly recipe: ModelEntry['recipe']
  /** Names this machine to the server, for its statistics. */
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
  const { clientName } = options
  const source = await openModelSource(options.model, {
    ...(process.env.HF_ENDPOINT ? { endpoint: process.env.HF_ENDPOINT } : {}),
    ...(process.env.HF_TOKEN ? { token: process.env.HF_TOKEN } : {}),
    ...(clientName === undefined ? {} : { clientName }),
  })
  const span = await resolveLayers(options.layers, source, options.signal)
  if (span === null && !options.ends) {
    throw new LlmNodeError('BAD_INPUT', 'Without layers and without the ends there is nothing to hold.', {
      hint: 'Give --layers 4-7 to serve layers, or --ends to ask.',
    })
  }
  const name = nameOf(source.id)
  const folder = `${name}-${options.recipe}`
  const holding = await downloadModel({
    source,
    folder: join(home.modelsFolder, folder),
    recipe: parseRecipe(options.recipe),
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
  }
  const others = config.models.filter((model) => model.folder !== folder)
  await saveConfig(home, parseConfig({ ...config, models: [...others, entry] }))
  return { entry, holding }
}

async function resolveLayers(layers: string, source: ModelSource, signal: AbortSignal): Promise<Span | null> {
  if (layers === 'none') return null
  if (layers !== 'all') return parseSpan(layers)
  const bytes = await source.readFile('config.json', { maxBytes: downloadLimits.configBytes, signal })
  if (bytes === null) {
    throw new LlmNodeError('MODEL_NOT_FOUND', `${source.id} has no config.json.`, {
      hint: 'Check the name of the model.',
    })
  }
  return { start: 0, end: parseModelConfig(parseJson(bytes, source.id)).nLayers }
}

function parseJson(bytes: Uint8Array, from: string): unknown {
  try {
    return JSON.parse(fromUtf8(bytes))
  } catch (cause) {
    throw new LlmNodeError('MODEL_CORRUPT', `config.json of ${from} is not JSON.`, {
      hint: 'Check the name of the model.',
      cause,
    })
  }
}

/** "Qwen/Qwen3-0.6B@main" → "Qwen3-0.6B"; fit to be a folder's name. */
function nameOf(sourceId: string): string {
  const path = sourceId.replace(/@[^/]*$/, '').replace(/\/+$/, '')
  const last = path.slice(path.lastIndexOf('/') + 1).replaceAll(/[^\w.-]/g, '_')
  return /^[\w-]/.test(last) ? last : `model_${last}`
}
