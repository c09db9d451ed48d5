import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { toHex } from '../base/bytes.ts'
import type { Config, ModelEntry } from '../base/config.ts'
import { LlmNodeError } from '../base/errors.ts'
import type { ModelSpec } from '../model/spec.ts'
import type { AskableModel } from '../pipeline/ask.ts'
import { type LayerCost, measureEndsMs, measureLayerCost } from '../pipeline/measure.ts'
import { createTextModel, type TextModel } from '../pipeline/text-model.ts'
import { createModelEnds, type ModelEnds } from '../shard/ends.ts'
import { type Holding, openHolding } from '../shard/holding.ts'
import { createSpanRunner, type SpanRunner } from '../shard/runner.ts'
import { detectGpuFree } from './detect.ts'
import { chooseEngine, type OwnEngine } from './engine-choice.ts'
import { kvBudgetFor } from './memory-check.ts'
import { detectMemoryShare } from './share.ts'

/** A model of this home in memory: its layers, its ends, or both. */
export interface LoadedModel {
  readonly name: string
  /** What the configuration says of it. */
  readonly entry: ModelEntry
  readonly holding: Holding
  readonly spec: ModelSpec
  /** 32 bytes. */
  readonly numericsClass: Uint8Array
  /** What the owner should know about how it is computed here. */
  readonly notes: readonly string[]
  readonly layers: { readonly runner: SpanRunner; readonly cost: LayerCost } | undefined
  /** Present when the ends are held: this node can ask. */
  readonly askable: AskableModel | undefined
  close(): Promise<void>
}

/**
 * Throws MODEL_NOT_FOUND, MODEL_CORRUPT, MODEL_UNSUPPORTED, OUT_OF_MEMORY before anything is loaded,
 * ENGINE_UNAVAILABLE, ENGINE_FAILED.
 */
export async function loadModel(
  entry: ModelEntry,
  modelsFolder: string,
  config: Pick<Config, 'engine' | 'share'>,
): Promise<LoadedModel> {
  const holding = await openHolding(join(modelsFolder, entry.folder))
  const { spec, recipe } = holding
  const { engine } = config
  const { library, provider, threads, exam, notes } = await chooseEngine(engine, holding)
  const memory = await detectMemoryShare(config)
  const freeBytes = (provider === 'cuda' ? await detectGpuFree() : null) ?? memory.freeBytes
  const wantedKvBytes = engine.kvMiB * 1_048_576
  const kvBudgetBytes = kvBudgetFor(holding, { name: entry.name, wantedKvBytes, freeBytes })
  const own = exam.numericsClass
  const runner = await loadLayers(holding, { threads, library, provider, kvBudgetBytes })
  const cost = runner === undefined ? undefined : await measureLayerCost(runner)
  const ends = await loadEnds(holding, { threads, library, provider })
  const askable: AskableModel | undefined =
    ends === undefined
      ? undefined
      : {
          name: entry.name,
          modelId: holding.modelId,
          spec,
          recipe,
          numericsClass: toHex(own),
          inexact: !exam.exact,
          runner,
          localDecodeMs: cost?.decodeMs ?? null,
          endsMs: await measureEndsMs(ends.ends),
          ends: ends.ends,
          text: ends.text,
        }
  return {
    name: entry.name,
    entry,
    holding,
    spec,
    numericsClass: own,
    notes,
    layers: runner === undefined || cost === undefined ? undefined : { runner, cost },
    askable,
    async close() {
      await Promise.all([runner?.close(), ends?.ends.close()])
    },
  }
}

type EngineOptions = Pick<OwnEngine, 'threads' | 'library' | 'provider'>

/** The first contiguous run of held layers; setup never leaves more than one. */
async function loadLayers(
  holding: Holding,
  options: EngineOptions & { kvBudgetBytes: number },
): Promise<SpanRunner | undefined> {
  const [span] = holding.spans
  if (span === undefined) return undefined
  const layerFiles: string[] = []
  for (let layer = span.start; layer < span.end; layer++) {
    const held = holding.layers.get(layer)
    if (held !== undefined) layerFiles.push(held.path)
  }
  return createSpanRunner({ spec: holding.spec, recipe: holding.recipe, span, layerFiles, ...options })
}

async function loadEnds(
  holding: Holding,
  options: EngineOptions,
): Promise<{ ends: ModelEnds; text: TextModel } | undefined> {
  if (holding.endsPath === null) return undefined
  const text = createTextModel({
    config: await readJson(holding, 'config.json'),
    tokenizerJson: await readJson(holding, 'tokenizer.json'),
    tokenizerConfig: await readJson(holding, 'tokenizer_config.json'),
    generationConfig: await readJson(holding, 'generation_config.json'),
    jinjaFile: await readText(holding, 'chat_template.jinja'),
  })
  const { spec, recipe, endsPath } = holding
  return { text, ends: await createModelEnds({ spec, recipe, endsFile: endsPath, ...options }) }
}

async function readText(holding: Holding, name: string): Promise<string | undefined> {
  const path = holding.files.get(name)
  return path === undefined ? undefined : readFile(path, 'utf8')
}

async function readJson(holding: Holding, name: string): Promise<unknown> {
  const text = await readText(holding, name)
  if (text === undefined) return undefined
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new LlmNodeError('MODEL_CORRUPT', `${name} of ${holding.source} is not valid JSON.`, {
      hint: 'Fetch it again: llm-node setup',
      cause,
    })
  }
}
