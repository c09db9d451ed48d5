import type { Clock } from '../base/clock.ts'
import { LlmNodeError } from '../base/errors.ts'
import { shardLimits } from '../base/limits.ts'
import { formatSpan, type Span, spanLength } from '../base/span.ts'
import type { ModelSpec } from '../model/spec.ts'
import { createBriefRuns } from './brief-runs.ts'
import { graphNames, usesRowZeroPoints } from './graph.ts'
import { kvLayout, scoreRows, slotNames, suggestedSlots } from './graph-slots.ts'
import { createKvCache, type KvCache } from './kv.ts'
import type { OrtRuntime, OrtSession, OrtTensor } from './ort.ts'
import type { RecipeId } from './recipe.ts'
import type { RopeFactors } from './rope.ts'
import { createRopeTables, type RopeTables } from './rope-tables.ts'
import type { Schedulable, Work } from './scheduler.ts'
import { createSlotBinding, type SlotBinding } from './slot-binding.ts'
import { createStaging, isPaired, type RunBuffers, runRows, type Staging } from './staging.ts'

/** One session's part in a run, as reported to observers: which layers, from which position, how many real rows. */
export interface RunRecord {
  readonly span: Span
  readonly pos: number
  readonly rows: number
  readonly threads: number
  /** Of the whole run, and how many sessions shared it. */
  readonly ms: number
  readonly sessions: number
}

/** One session as a run needs it. */
export interface RunSession extends Schedulable {
  readonly span: Span
  readonly factors: RopeFactors
  closed: boolean
  readonly kv: KvCache
}

export type SessionKind = Pick<RunSession, 'factors' | 'local'>

/** Executes runs of one loaded graph. The caller sees to it that there is one at a time. */
export interface Executor {
  /** Sessions of one run at most. */
  readonly slots: number
  openSession(span: Span, maxPositions: number, kind: SessionKind): RunSession
  /** The two can share a run: the same layers, turned by the same factors. */
  canShare(a: RunSession, b: RunSession): boolean
  /** Rows of one run at most: attention keeps a score per row, head and position of the KV's capacity. */
  maxRows(session: RunSession, pos: number): number
  /** Makes room for the rows in the session's KV; `run` does, too, but fails for all sessions then. OUT_OF_MEMORY. */
  reserve(work: Work<RunSession>): Promise<void>
  /** One run over the rows of different sessions that can share it. */
  run(batch: readonly Work<RunSession>[]): Promise<readonly Float32Array[]>
  /** After the last run, when every session is released. */
  release(): void
}

export interface ExecutorOptions {
  readonly spec: ModelSpec
  readonly recipe: RecipeId
  readonly span: Span
  readonly threads: number
  /** Slots that the graph was built with; default suggestedSlots. */
  readonly slots?: number | undefined
  readonly maxRunRows?: number | undefined
  readonly onRun?: ((record: RunRecord) => void) | undefined
}

export interface ExecutorDeps {
  readonly ort: OrtRuntime
  readonly graph: OrtSession
  readonly clock: Clock
}

export function createExecutor(options: ExecutorOptions, deps: ExecutorDeps): Executor {
  return new SlotExecutor(options, deps)
}

/** The bindings of one part of the span, and how many sessions use them. */
interface Part {
  readonly alone: BoundRuns
  /** Made when two sessions first share a run. */
  together: BoundRuns | undefined
  sessions: number
}

/** A binding, with what it points to now, to bind only what changed. */
interface BoundRuns {
  readonly slots: SlotBinding<RunSession>
  rows: OrtTensor | null
  table: OrtTensor | null
}

class SlotExecutor implements Executor {
  readonly slots: number
  readonly #options: ExecutorOptions
  readonly #deps: ExecutorDeps
  readonly #staging: Staging
  readonly #runs = createBriefRuns()
  readonly #tables: RopeTables
  readonly #parts = new Map<string, Part>()

  constructor(options: ExecutorOptions, deps: ExecutorDeps) {
    const { spec } = options
    this.slots = options.slots ?? suggestedSlots(spec)
    this.#options = options
    this.#deps = deps
    const keep = shardLimits.stagedRowCounts
    this.#staging = createStaging({ hiddenSize: spec.hiddenSize, width: spec.hiddenSize, keep }, deps.ort)
    this.#tables = createRopeTables(spec, deps.ort)
  }

  openSession(span: Span, maxPositions: number, { factors, local }: SessionKind): RunSession {
    const layout = kvLayout(this.#options.spec)
    const keys = { blocks: layout.keys, width: layout.keyWidth }
    const values = { blocks: layout.values, width: layout.width }
    const kv = createKvCache({ nLayers: spanLength(span), keys, values, maxPositions }, this.#deps.ort)
    const key = partKey({ span, factors })
    const part = this.#parts.get(key) ?? { alone: this.#bind(span, true), together: undefined, sessions: 0 }
    this.#parts.set(key, part)
    part.sessions++
    const release = () => {
      part.alone.slots.leave(session)
      part.together?.slots.leave(session)
      kv.release()
      if (--part.sessions > 0) return
      this.#parts.delete(key)
      part.alone.slots.release()
      part.together?.slots.release()
    }
    const session: RunSession = { span, factors, local, length: 0, closed: false, kv, release }
    return session
  }

  canShare(a: RunSession, b: RunSession): boolean {
    return partKey(a) === partKey(b)
  }

  maxRows(session: RunSession, pos: number): number {
    const { spec, maxRunRows = shardLimits.runRows } = this.#options
    const capacity = session.kv.capacityFor(pos + maxRunRows)
    const rowBytes = spec.nKvHeads * scoreRows(spec, 1) * capacity * 4
    return Math.max(1, Math.min(maxRunRows, Math.floor(shardLimits.scoreBytes / rowBytes)))
  }

  reserve({ session, pos, nTokens }: Work<RunSession>): Promise<void> {
    const part = this.#part(session)
    // A row more for the dummy, which any of the sessions may have to take.
    const positions = pos + nTokens + (isPaired(this.#options.recipe) ? 1 : 0)
    return session.kv.grow(positions, pos, (index, layer) => {
      part.alone.slots.rebind(session, index, layer)
      part.together?.slots.rebind(session, index, layer)
    })
  }

  async run(batch: readonly Work<RunSession>[]): Promise<readonly Float32Array[]> {
    const [first] = batch
    if (first === undefined) return []
    for (const work of batch) await this.reserve(work)
    const { session } = first
    const part = this.#part(session)
    if (batch.length > 1) part.together ??= this.#bind(session.span, false)
    const bound = batch.length > 1 && part.together !== undefined ? part.together : part.alone
    const seats = bound.slots.place(batch.map((work) => work.session))
    const inOrder = [...batch].sort((a, b) => (seats.get(a.session) ?? 0) - (seats.get(b.session) ?? 0))
    const buffers = this.#arrange(bound, inOrder)
    const startMs = this.#deps.clock.monotonicMs()
    await this.#runs.run(bound.slots.binding, buffers.input.dims[1] ?? 0)
    this.#report(batch, this.#deps.clock.monotonicMs() - startMs)
    const results = new Map<RunSession, Float32Array>()
    let row = 0
    for (const { session: owner, nTokens } of inOrder) {
      results.set(owner, buffers.take(nTokens, row))
      row += nTokens
    }
    return batch.map((work) => results.get(work.session) ?? new Float32Array())
  }

  release(): void {
    this.#staging.release()
    this.#tables.release()
  }

  #part(session: RunSession): Part {
    const part = this.#parts.get(partKey(session))
    if (part === undefined) throw new LlmNodeError('INTERNAL', 'A released session is run.')
    return part
  }

  #bind(part: Span, solo: boolean): BoundRuns {
    const { spec, span } = this.#options
    const slots = createSlotBinding<RunSession>({ spec, span, part, slots: this.slots, solo }, this.#deps)
    return { slots, rows: null, table: null }
  }

  /** Binds everything that the run needs. Returns where its rows go in and come out. */
  #arrange(bound: BoundRuns, work: readonly Work<RunSession>[]): RunBuffers {
    const { recipe } = this.#options
    const { binding } = bound.slots
    const nTokens = work.reduce((sum, part) => sum + part.nTokens, 0)
    const rows = runRows(recipe, nTokens)
    const last = work.length - 1
    // The dummy row, if any, is one more of the last session's, where its next row will be.
    const parts = work.map(({ session, pos, nTokens: own }, i) => {
      return { session, pos, rows: i === last ? own + rows - nTokens : own }
    })
    bound.slots.arrange(parts)
    const [first] = work
    // The rotation wants a table of at least as many positions as it has rows, wherever these are.
    const positions = Math.max(rows, ...work.map(({ session }) => session.kv.capacity))
    const table = this.#tables.get(first?.session.factors ?? 'short', positions)
    if (bound.table !== table.cos) {
      binding.input(graphNames.cos, table.cos)
      binding.input(graphNames.sin, table.sin)
      bound.table = table.cos
    }
    const buffers = this.#staging.get(rows)
    if (bound.rows !== buffers.input) {
      binding.input(graphNames.hidden, buffers.input)
      binding.output(graphNames.out, buffers.output)
      binding.input(slotNames.positions, buffers.positions)
      if (usesRowZeroPoints(recipe)) binding.input(graphNames.rowZeroPoints, buffers.zeroPoints)
      bound.rows = buffers.input
    }
    buffers.fill(...work.map(({ hidden }) => hidden))
    const values = new BigInt64Array(buffers.positions.memory)
    let at = 0
    for (const { pos, rows: own } of parts) for (let row = 0; row < own; row++) values[at++] = BigInt(pos + row)
    return buffers
  }

  #report(batch: readonly Work<RunSession>[], ms: number): void {
    const { threads, onRun } = this.#options
    for (const { session, pos, nTokens } of batch) {
      onRun?.({ span: session.span, pos, rows: nTokens, threads, ms, sessions: batch.length })
    }
  }
}

function partKey({ span, factors }: { span: Span; factors: RopeFactors }): string {
  return `${formatSpan(span)} ${factors}`
}
