import type { Clock } from '../base/clock.ts'
import { shardLimits } from '../base/limits.ts'
import type { Span } from '../base/span.ts'
import type { ModelSpec } from '../model/spec.ts'
import { graphNames, usesRowZeroPoints } from './graph.ts'
import { hasFusedRotation } from './graph-layer.ts'
import { createKvCache, type KvCache, type KvLayer } from './kv.ts'
import type { OrtBinding, OrtRuntime, OrtSession, OrtTensor } from './ort.ts'
import type { RecipeId } from './recipe.ts'
import { type RopeFactors, ropeTable } from './rope.ts'
import type { RunRecord } from './runner.ts'
import type { Schedulable, Work } from './scheduler.ts'
import { createStaging, runRows } from './staging.ts'

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
  run(batch: readonly Work<RunSession>[]): Promise<readonly Float32Array[]>
  /** After the last run, when every session is released. */
  release(): void
}

export interface ExecutorOptions {
  readonly spec: ModelSpec
  readonly recipe: RecipeId
  readonly span: Span
  readonly threads: number
  readonly onRun?: ((record: RunRecord) => void) | undefined
}

export function createExecutor(
  options: ExecutorOptions,
  deps: { ort: OrtRuntime; graph: OrtSession; clock: Clock },
): Executor {
  const { spec, recipe, span } = options
  const { ort, graph, clock } = deps
  const flag = (on: boolean) => {
    const tensor = ort.createTensor('bool', [])
    new Uint8Array(tensor.memory)[0] = on ? 1 : 0
    return tensor
  }
  const flags = { on: flag(true), off: flag(false) }
  const noKv = ort.createTensor('f32', [1, spec.nKvHeads, 0, spec.headDim])
  const staging = createStaging(
    { hiddenSize: spec.hiddenSize, width: spec.hiddenSize, keep: shardLimits.stagedRowCounts },
    ort,
  )
  const tables = createTables(spec, ort)

  const bindKv = (binding: OrtBinding, layer: number, { keys, values }: KvLayer) => {
    const names = graphNames.kv(layer)
    binding.input(names.pastK, keys)
    binding.output(names.presentK, keys)
    binding.input(names.pastV, values)
    binding.output(names.presentV, values)
  }

  const openSession = (part: Span, maxPositions: number, factors: RopeFactors): RunSession => {
    const { nKvHeads, headDim } = spec
    const kv = createKvCache({ nLayers: part.end - part.start, nKvHeads, headDim, maxPositions }, ort)
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
      binding.input(graphNames.layerOn(layer), on ? flags.on : flags.off)
      // Layers that are on get their KV with the first run.
      if (!on) bindKv(binding, layer, { keys: noKv, values: noKv })
    }
    return {
      span: part,
      factors,
      length: 0,
      closed: false,
      kv,
      binding,
      positions,
      bound: { rows: null, table: null },
      release() {
        binding.release()
        kv.release()
        for (const tensor of Object.values(positions)) tensor.release()
      },
    }
  }

  /** Everything a run of `rows` rows from `pos` on needs, bound. Returns where its rows go in and come out. */
  const prepare = async (session: RunSession, pos: number, rows: number) => {
    const { kv, binding, bound } = session
    await kv.grow(pos + rows, Math.max(pos, session.length), (index, layer) => {
      bindKv(binding, session.span.start + index, layer)
    })
    const table = tables.get(session.factors, kv.capacity)
    if (bound.table !== table.cos) {
      binding.input(graphNames.cos, table.cos)
      binding.input(graphNames.sin, table.sin)
      bound.table = table.cos
    }
    const buffers = staging.get(rows)
    if (bound.rows !== buffers.input) {
      binding.input(graphNames.hidden, buffers.input)
      binding.output(graphNames.out, buffers.output)
      if (usesRowZeroPoints(recipe)) binding.input(graphNames.rowZeroPoints, buffers.zeroPoints)
      bound.rows = buffers.input
    }
    new BigInt64Array(session.positions.first.memory)[0] = BigInt(pos)
    new Int32Array(session.positions.last.memory)[0] = pos + rows - 1
    new Int32Array(session.positions.total.memory)[0] = pos + rows
    return buffers
  }

  const runOne = async ({ session, pos, nTokens, hidden }: Work<RunSession>): Promise<Float32Array> => {
    const buffers = await prepare(session, pos, runRows(recipe, nTokens))
    buffers.fill(hidden)
    const startMs = clock.monotonicMs()
    await session.binding.run()
    const ms = clock.monotonicMs() - startMs
    options.onRun?.({ span: session.span, pos, rows: nTokens, threads: options.threads, ms })
    return buffers.take(nTokens)
  }

  return {
    openSession,
    // One slot: a batch of more than one session is several runs until the graph has more.
    async run(batch) {
      const results: Float32Array[] = []
      for (const work of batch) results.push(await runOne(work))
      return results
    },
    release() {
      staging.release()
      tables.release()
      for (const tensor of [flags.on, flags.off, noKv]) tensor.release()
    },
  }
}

interface TableTensors {
  readonly rows: number
  readonly cos: OrtTensor
  readonly sin: OrtTensor
}

/** The rotation tables, as long as the longest session needs them; sessions on an older, shorter one keep it alive. */
function createTables(spec: ModelSpec, ort: OrtRuntime) {
  const tables = new Map<RopeFactors, TableTensors>()
  const create = (factors: RopeFactors, rows: number): TableTensors => {
    const table = ropeTable(spec.rope, factors, rows)
    const dims = [rows, spec.rope.rotaryDim / 2]
    const cos = ort.createTensor('f32', dims)
    const sin = ort.createTensor('f32', dims)
    new Float32Array(cos.memory).set(table.cos)
    new Float32Array(sin.memory).set(table.sin)
    return { rows, cos, sin }
  }
  const drop = (table: TableTensors | undefined) => {
    table?.cos.release()
    table?.sin.release()
  }
  return {
    get(factors: RopeFactors, rows: number): TableTensors {
      const known = tables.get(factors)
      if (known !== undefined && known.rows >= rows) return known
      const table = create(factors, rows)
      drop(known)
      tables.set(factors, table)
      return table
    },
    release() {
      for (const table of tables.values()) drop(table)
      tables.clear()
    },
  }
}
