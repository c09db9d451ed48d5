import { randomFillSync } from 'node:crypto'
import { mkdtemp, open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Config } from '../base/config.ts'
import { pipelineLimits } from '../base/limits.ts'
import type { ModelSpec } from '../model/spec.ts'
import { type LayerCost, measureLayerCost } from '../pipeline/measure.ts'
import { declareLayer, packedFileBytes } from '../shard/pack.ts'
import { layerFileName, type RecipeId } from '../shard/recipe.ts'
import { createSpanRunner } from '../shard/runner.ts'
import { writeSampleWeights } from '../shard/sample-weights.ts'
import type { ModelSource } from '../shard/source.ts'
import type { ModelSurvey } from '../shard/survey.ts'
import { suggestedThreads } from '../shard/threads.ts'

/** What this machine does with one layer of a model, measured with random weights before anything is fetched. */
export interface MachineSpeed {
  /** Null: such a layer is too large to be tried on the spot; `layer` then follows from the memory's speed. */
  readonly measured: boolean
  readonly layer: LayerCost
  /** Bytes per second that one core reads from memory. */
  readonly memoryBytesPerSecond: number
  /** Bytes per second that reach the disk where models lie. */
  readonly diskBytesPerSecond: number
}

/** Larger layers would take seconds to write and to load. */
const SAMPLE_BYTES = 256 * 1_048_576
/** Together more than a processor's cache holds: the layers of a real span are read from memory each time. */
const UNCACHED_BYTES = 96 * 1_048_576
/** Half a second for eight layers of 8 MB, three times with other work between: a good moment does not decide. */
const BURST_STEPS = 60
/**
 * A step among other work takes so many times what it takes in a row of nothing else: 1.03 to 1.36, as plan's promises and
 * what then happened show (tests/long/estimates.test.ts).
 */
const AMONG_OTHER_WORK = 1.12
const MEMORY_BYTES = 128 * 1_048_576
const DISK_BYTES = 32 * 1_048_576
/** How long and how much the source may be listened to for its speed. */
const LISTEN_MS = 1_500
const LISTEN_BYTES = 8 * 1_048_576
/** What is fetched in a few seconds anyway needs no estimate. */
const WORTH_LISTENING_BYTES = 64 * 1_048_576

export interface SpeedRequest {
  readonly spec: ModelSpec
  readonly recipe: RecipeId
  readonly cores: number
  readonly engine: Config['engine']
  /** Where models will lie; it has to exist. */
  readonly folder: string
}

/** Takes 1 to 3 s and at most 300 MB of disk for a moment. Throws ENGINE_UNAVAILABLE, ENGINE_FAILED. */
export async function measureSpeed(request: SpeedRequest): Promise<MachineSpeed> {
  const folder = await mkdtemp(join(request.folder, '.speed-'))
  try {
    const layerBytes = largestLayer(request)
    const measured = layerBytes <= SAMPLE_BYTES
    const sample = measured ? await openSample(request, folder) : undefined
    try {
      const before = await sample?.measure()
      const memoryBytesPerSecond = measureMemory()
      const between = await sample?.measure()
      const diskBytesPerSecond = await measureDisk(join(folder, 'disk'))
      const costs = [before, between, await sample?.measure()].flatMap((cost) => cost ?? [])
      const layer = measured ? meanCost(costs) : guessLayer((layerBytes / memoryBytesPerSecond) * 1_000)
      return { measured, layer, memoryBytesPerSecond, diskBytesPerSecond }
    } finally {
      await sample?.close()
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

function meanCost(costs: readonly LayerCost[]): LayerCost {
  const mean = (of: (cost: LayerCost) => number) => costs.reduce((sum, cost) => sum + of(cost), 0) / costs.length
  return { decodeMs: AMONG_OTHER_WORK * mean((cost) => cost.decodeMs), prefillMs: mean((cost) => cost.prefillMs) }
}

function largestLayer({ spec, recipe }: SpeedRequest): number {
  return Math.max(...spec.layers.map((layer) => packedFileBytes(declareLayer(layer, recipe), recipe)))
}

function guessLayer(decodeMs: number): LayerCost {
  return { decodeMs, prefillMs: decodeMs * pipelineLimits.prefillRowShare }
}

interface Sample {
  measure(): Promise<LayerCost>
  close(): Promise<void>
}

/** A few layers of random weights. */
async function openSample(request: SpeedRequest, folder: string): Promise<Sample> {
  const { spec, recipe, cores, engine } = request
  const count = Math.min(spec.nLayers, Math.ceil(UNCACHED_BYTES / largestLayer(request)))
  const layerFiles: string[] = []
  for (const [i, layer] of spec.layers.slice(0, count).entries()) {
    const path = join(folder, layerFileName(i, recipe))
    await writeSampleWeights(path, declareLayer(layer, recipe), recipe, i + 1)
    layerFiles.push(path)
  }
  const runner = await createSpanRunner({
    spec,
    recipe,
    span: { start: 0, end: count },
    layerFiles,
    threads: engine.threads ?? suggestedThreads(spec, cores),
    kvBudgetBytes: SAMPLE_BYTES,
    library: engine.library ?? undefined,
  })
  return { measure: () => measureLayerCost(runner, BURST_STEPS), close: () => runner.close() }
}

/** A search for a byte that is not there reads everything once, as fast as one core can. */
function measureMemory(): number {
  const bytes = Buffer.alloc(MEMORY_BYTES, 1)
  let bestMs = Number.POSITIVE_INFINITY
  for (let round = 0; round < 3; round++) {
    const startedMs = performance.now()
    bytes.indexOf(2)
    bestMs = Math.min(bestMs, performance.now() - startedMs)
  }
  return (MEMORY_BYTES / bestMs) * 1_000
}

async function measureDisk(path: string): Promise<number> {
  const bytes = randomFillSync(Buffer.allocUnsafe(DISK_BYTES))
  const startedMs = performance.now()
  const file = await open(path, 'w')
  try {
    await file.writeFile(bytes)
    await file.sync()
  } finally {
    await file.close()
  }
  return (DISK_BYTES / (performance.now() - startedMs)) * 1_000
}

/**
 * Bytes per second that a source delivers, from the beginning of a weight file; null when it is a folder here or so small
 * that the download needs no estimate. Takes at most 1.5 s. Throws what the source throws.
 */
export async function measureDownload(
  { evidence, versions }: ModelSurvey,
  source: ModelSource,
  signal: AbortSignal,
): Promise<number | null> {
  const [largest] = [...versions].sort(([, a], [, b]) => b.fileBytes - a.fileBytes)
  if (!isRemote(evidence.source) || largest === undefined) return null
  const [file, known] = largest
  if (known.fileBytes < WORTH_LISTENING_BYTES) return null
  const range = await source.openRange({ file, begin: 0, end: LISTEN_BYTES, known, signal })
  let startedMs: number | undefined
  let bytes = 0
  for await (const chunk of range.chunks) {
    // The first chunk only starts the watch: waiting for it is the round trip, not the speed.
    if (startedMs === undefined) startedMs = performance.now()
    else bytes += chunk.length
    if (performance.now() - startedMs > LISTEN_MS) break
  }
  const ms = performance.now() - (startedMs ?? 0)
  return bytes === 0 ? null : (bytes / ms) * 1_000
}

/** A folder on this machine needs no download worth the name. */
export function isRemote(sourceId: string): boolean {
  return /^https?:|^[\w-][\w.-]*\/[\w-][\w.-]*@/.test(sourceId)
}
