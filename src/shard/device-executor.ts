import { shardLimits } from '../base/limits.ts'
import { type Span, spanLength } from '../base/span.ts'
import type { Executor, ExecutorDeps, ExecutorOptions, RunSession, SessionKind } from './executor.ts'
import { graphNames, usesRowZeroPoints } from './graph.ts'
import { hasFusedRotation } from './graph-fused.ts'
import { type KvCache, type KvLayer, kvBytesPerPosition } from './kv.ts'
import type { OrtBinding, OrtSession, OrtTensor } from './ort.ts'
import { createRopeTables, type RopeTables } from './rope-tables.ts'
import type { Work } from './scheduler.ts'
import { createStaging, runRows, type Staging } from './staging.ts'

/**
 * Executes runs of a graph whose keys and values are f16 and lie where it computes: on a GPU. Only hidden states go
 * there and back. A session has all its memory from the start, because what lies on a device cannot be moved from
 * here; runs of several sessions follow each other.
 */
export function createDeviceExecutor(options: ExecutorOptions, deps: ExecutorDeps): Executor {
  return new DeviceExecutor(options, deps)
}

/** A session with its own binding and where its next run begins and ends (graph-fused.ts, positions). */
interface DeviceSession extends RunSession {
  readonly binding: OrtBinding
  readonly positions: { readonly first: OrtTensor; readonly last: OrtTensor; readonly total: OrtTensor }
}

class DeviceExecutor implements Executor {
  readonly slots = 1
  readonly #options: ExecutorOptions
  readonly #deps: ExecutorDeps
  readonly #on: OrtTensor
  readonly #off: OrtTensor
  readonly #noKv: OrtTensor
  readonly #staging: Staging
  readonly #tables: RopeTables

  constructor(options: ExecutorOptions, deps: ExecutorDeps) {
    const { spec } = options
    const { ort, graph } = deps
    this.#options = options
    this.#deps = deps
    this.#on = ort.createTensor('bool', [])
    this.#off = ort.createTensor('bool', [])
    new Uint8Array(this.#on.memory)[0] = 1
    new Uint8Array(this.#off.memory)[0] = 0
    this.#noKv = graph.createTensor('f16', [1, spec.nKvHeads, 0, spec.headDim])
    const keep = shardLimits.stagedRowCounts
    this.#staging = createStaging({ hiddenSize: spec.hiddenSize, width: spec.hiddenSize, keep }, ort)
    this.#tables = createRopeTables(spec, ort)
  }

  openSession(part: Span, maxPositions: number, { factors, local }: SessionKind): DeviceSession {
    const { spec, span } = this.#options
    const { ort, graph } = this.#deps
    const kv = createDeviceKv({ ...spec, nLayers: spanLength(part), maxPositions }, graph)
    const binding = graph.createBinding()
    const positions = {
      first: ort.createTensor('i64', [1]),
      last: ort.createTensor('i32', [1]),
      total: ort.createTensor('i32', []),
    }
    if (!hasFusedRotation(spec)) binding.input(graphNames.first, positions.first)
    binding.input(graphNames.last, positions.last)
    binding.input(graphNames.total, positions.total)
    for (let layer = span.start; layer < span.end; layer++) {
      const own = kv.layers[layer - part.start]
      binding.input(graphNames.layerOn(layer), own === undefined ? this.#off : this.#on, { fixed: true })
      bindKv(binding, layer, own ?? { keys: this.#noKv, values: this.#noKv })
    }
    const table = this.#tables.get(factors, maxPositions)
    binding.input(graphNames.cos, table.cos, { fixed: true })
    binding.input(graphNames.sin, table.sin, { fixed: true })
    const release = () => {
      binding.release()
      kv.release()
      for (const tensor of Object.values(positions)) tensor.release()
    }
    return { span: part, factors, local, length: 0, closed: false, kv, binding, positions, release }
  }

  canShare(): boolean {
    return false
  }

  reserve(): Promise<void> {
    return Promise.resolve()
  }

  maxRows(): number {
    return this.#options.maxRunRows ?? shardLimits.runRows
  }

  async run(batch: readonly Work<DeviceSession>[]): Promise<readonly Float32Array[]> {
    const results: Float32Array[] = []
    for (const work of batch) results.push(await this.#runOne(work))
    return results
  }

  release(): void {
    this.#staging.release()
    this.#tables.release()
    for (const tensor of [this.#on, this.#off, this.#noKv]) tensor.release()
  }

  async #runOne({ session, pos, nTokens, hidden }: Work<DeviceSession>): Promise<Float32Array> {
    const { recipe, threads, onRun } = this.#options
    const { binding, positions, span } = session
    // A single row takes another kernel in the fused attention.
    const rows = Math.max(2, runRows(recipe, nTokens))
    const buffers = this.#staging.get(rows)
    binding.input(graphNames.hidden, buffers.input)
    binding.output(graphNames.out, buffers.output)
    if (usesRowZeroPoints(recipe)) binding.input(graphNames.rowZeroPoints, buffers.zeroPoints)
    buffers.fill(hidden)
    new BigInt64Array(positions.first.memory)[0] = BigInt(pos)
    new Int32Array(positions.last.memory)[0] = pos + rows - 1
    new Int32Array(positions.total.memory)[0] = pos + rows
    const startMs = this.#deps.clock.monotonicMs()
    await binding.run()
    onRun?.({ span, pos, rows: nTokens, threads, ms: this.#deps.clock.monotonicMs() - startMs, sessions: 1 })
    return buffers.take(nTokens)
  }
}

function bindKv(binding: OrtBinding, layer: number, { keys, values }: KvLayer): void {
  const names = graphNames.kv(layer)
  binding.input(names.pastK, keys, { fixed: true })
  binding.output(names.presentK, keys)
  binding.input(names.pastV, values, { fixed: true })
  binding.output(names.presentV, values)
}

/** [1, nKvHeads, maxPositions, headDim] f16 twice for every layer, all of it at once. Throws OUT_OF_MEMORY. */
function createDeviceKv(
  shape: { nLayers: number; nKvHeads: number; headDim: number; maxPositions: number },
  graph: Pick<OrtSession, 'createTensor'>,
): KvCache {
  const { nLayers, nKvHeads, headDim, maxPositions } = shape
  const layers: KvLayer[] = []
  const release = () => {
    for (const { keys, values } of layers.splice(0)) {
      keys.release()
      values.release()
    }
  }
  const tensor = () => graph.createTensor('f16', [1, nKvHeads, maxPositions, headDim])
  try {
    for (let i = 0; i < nLayers; i++) {
      const keys = tensor()
      layers.push({ keys, values: keys })
      layers[i] = { keys, values: tensor() }
    }
  } catch (error) {
    release()
    throw error
  }
  return {
    layers,
    capacity: maxPositions,
    sizeBytes: (nLayers * maxPositions * kvBytesPerPosition(shape)) / 2,
    capacityFor: () => maxPositions,
    grow: () => Promise.resolve(),
    release,
  }
}
