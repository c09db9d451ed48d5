import type { Clock } from '../base/clock.ts'
import { shardLimits } from '../base/limits.ts'
import { type Span, spanLength } from '../base/span.ts'
import type { ModelSpec } from '../model/spec.ts'
import { createBriefRuns } from './brief-runs.ts'
import { graphNames, usesRowZeroPoints } from './graph.ts'
import { hasFusedRotation } from './graph-layer.ts'
import { createKvCache, type KvCache, type KvLayer } from './kv.ts'
import type { OrtBinding, OrtRuntime, OrtSession, OrtTensor } from './ort.ts'
import type { RecipeId } from './recipe.ts'
import type { RopeFactors } from './rope.ts'
import { createRopeTables, type RopeTables } from './rope-tables.ts'
import type { Schedulable, Work } from './scheduler.ts'
import { createStaging, type RunBuffers, runRows, type Staging } from './staging.ts'

/** One executed run, as reported to observers: which layers, from which position, how many real rows. */
export interface RunRecord {
  readonly span: Span
  readonly pos: number
  readonly rows: number
  readonly threads: number
  readonly ms: number
}

/** One session as a run needs it: its KV and the binding that ties it to the graph. */
export interface RunSession extends Schedulable {
  readonly span: Span
  readonly factors: RopeFactors
  closed: boolean
  readonly kv: KvCache
  readonly binding: OrtBinding
  /** Where its next run begins and ends (graph-layer.ts, positions). */
  readonly positions: { readonly first: OrtTensor; readonly last: OrtTensor; readonly total: OrtTensor }
  /** What the binding points to now, to bind only what changed. */
  bound: { rows: OrtTensor | null; table: OrtTensor | null }
}

/** Executes runs of one loaded graph. The caller sees to it that there is one at a time. */
export interface Executor {
  openSession(span: Span, maxPositions: number, factors: RopeFactors): RunSession
  /** Rows of one run at most: attention keeps a score per row, head and position of the KV's capacity. */
  maxRows(session: RunSession, pos: number): number
  run(batch: readonly Work<RunSession>[]): Promise<readonly Float32Array[]>
  /** After the last run, when every session is released. */
  release(): void
}

export interface ExecutorOptions {
  readonly spec: ModelSpec
  readonly recipe: RecipeId
  readonly span: Span
  readonly threads: number
  readonly maxRunRows?: number | undefined
  readonly onRun?: ((record: RunRecord) => void) | undefined
}

export interface ExecutorDeps {
  readonly ort: OrtRuntime
  readonly graph: OrtSession
  readonly clock: Clock
}

export function createExecutor(options: ExecutorOptions, deps: ExecutorDeps): Executor {
  return new SingleSlotExecutor(options, deps)
}

class SingleSlotExecutor implements Executor {
  readonly #options: ExecutorOptions
  readonly #deps: ExecutorDeps
  readonly #on: OrtTensor
  readonly #off: OrtTensor
  readonly #noKv: OrtTensor
  readonly #staging: Staging
  readonly #runs = createBriefRuns()
  readonly #tables: RopeTables

  constructor(options: ExecutorOptions, deps: ExecutorDeps) {
    const { spec } = options
    const { ort } = deps
    this.#options = options
    this.#deps = deps
    this.#on = ort.createTensor('bool', [])
    this.#off = ort.createTensor('bool', [])
    new Uint8Array(this.#on.memory)[0] = 1
    new Uint8Array(this.#off.memory)[0] = 0
    this.#noKv = ort.createTensor('f32', [1, spec.nKvHeads, 0, spec.headDim])
    const keep = shardLimits.stagedRowCounts
    this.#staging = createStaging({ hiddenSize: spec.hiddenSize, width: spec.hiddenSize, keep }, ort)
    this.#tables = createRopeTables(spec, ort)
  }

  openSession(part: Span, maxPositions: number, factors: RopeFactors): RunSession {
    const { spec, span } = this.#options
    const { ort, graph } = this.#deps
    const kv = createKvCache({ ...spec, nLayers: spanLength(part), maxPositions }, ort)
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
      const on = part.start <= layer && layer < part.end
      binding.input(graphNames.layerOn(layer), on ? this.#on : this.#off)
      // Layers that are on get their KV with the first run.
      if (!on) bindKv(binding, layer, { keys: this.#noKv, values: this.#noKv })
    }
    const release = () => {
      binding.release()
      kv.release()
      for (const tensor of Object.values(positions)) tensor.release()
    }
    const bound = { rows: null, table: null }
    return { span: part, factors, length: 0, closed: false, kv, binding, positions, bound, release }
  }

  maxRows(session: RunSession, pos: number): number {
    const { maxRunRows = shardLimits.runRows } = this.#options
    const capacity = session.kv.capacityFor(pos + maxRunRows)
    const rowBytes = this.#options.spec.nHeads * capacity * 4
    return Math.max(1, Math.min(maxRunRows, Math.floor(shardLimits.scoreBytes / rowBytes)))
  }

  // One slot: a batch of more than one session is several runs until the graph has more.
  async run(batch: readonly Work<RunSession>[]): Promise<readonly Float32Array[]> {
    const results: Float32Array[] = []
    for (const work of batch) results.push(await this.#runOne(work))
    return results
  }

  release(): void {
    this.#staging.release()
    this.#tables.release()
    for (const tensor of [this.#on, this.#off, this.#noKv]) tensor.release()
  }

  async #runOne({ session, pos, nTokens, hidden }: Work<RunSession>): Promise<Float32Array> {
    const { recipe, threads, onRun } = this.#options
    const buffers = await this.#prepare(session, pos, runRows(recipe, nTokens))
    buffers.fill(hidden)
    const startMs = this.#deps.clock.monotonicMs()
    await this.#runs.run(session.binding, runRows(recipe, nTokens))
    const ms = this.#deps.clock.monotonicMs() - startMs
    onRun?.({ span: session.span, pos, rows: nTokens, threads, ms })
    return buffers.take(nTokens)
  }

  /** Binds everything a run of `rows` rows from `pos` on needs. Returns where its rows go in and come out. */
  async #prepare(session: RunSession, pos: number, rows: number): Promise<RunBuffers> {
    const { kv, binding, bound, positions } = session
    await kv.grow(pos + rows, pos, (index, layer) => bindKv(binding, session.span.start + index, layer))
    const table = this.#tables.get(session.factors, kv.capacity)
    if (bound.table !== table.cos) {
      binding.input(graphNames.cos, table.cos)
      binding.input(graphNames.sin, table.sin)
      bound.table = table.cos
    }
    const buffers = this.#staging.get(rows)
    if (bound.rows !== buffers.input) {
      binding.input(graphNames.hidden, buffers.input)
      binding.output(graphNames.out, buffers.output)
      if (usesRowZeroPoints(this.#options.recipe)) binding.input(graphNames.rowZeroPoints, buffers.zeroPoints)
      bound.rows = buffers.input
    }
    new BigInt64Array(positions.first.memory)[0] = BigInt(pos)
    new Int32Array(positions.last.memory)[0] = pos + rows - 1
    new Int32Array(positions.total.memory)[0] = pos + rows
    return buffers
  }
}

function bindKv(binding: OrtBinding, layer: number, { keys, values }: KvLayer): void {
  const names = graphNames.kv(layer)
  binding.input(names.pastK, keys)
  binding.output(names.presentK, keys)
  binding.input(names.pastV, values)
  binding.output(names.presentV, values)
}
