import { type Span, spanLength } from '../base/span.ts'
import type { ModelSpec } from '../model/spec.ts'
import { graphNames } from './graph.ts'
import { kvLayout, scoreRows, slotNames, windowsOf } from './graph-slots.ts'
import type { KvCache, KvLayer } from './kv.ts'
import type { OrtBinding, OrtRuntime, OrtSession, OrtTensor } from './ort.ts'

/** A session as a slot needs it: the KV of the layers `part`. */
export interface Seated {
  readonly kv: KvCache
}

/** What one session brings to a run. */
export interface SlotRows<S extends Seated> {
  readonly session: S
  readonly pos: number
  readonly rows: number
}

/**
 * The bindings of runs of one part of the span, with a slot for each of some sessions. A session keeps its slot from run
 * to run, because binding the KV of all layers takes as long as a small layer.
 */
export interface SlotBinding<S extends Seated> {
  readonly binding: OrtBinding
  /** Gives every session a slot; the rows of a run are those of slot 0, then 1, and so on. At most `slots` sessions. */
  place(sessions: readonly S[]): ReadonlyMap<S, number>
  /** Says where the rows of the run belong. Every session has been placed; the others' slots stay idle. */
  arrange(work: readonly SlotRows<S>[]): void
  /** A layer's KV has moved. */
  rebind(session: S, index: number, layer: KvLayer): void
  leave(session: S): void
  release(): void
}

export interface SlotBindingOptions {
  readonly spec: ModelSpec
  /** Layers of the graph, and those of them that run. */
  readonly span: Span
  readonly part: Span
  /** Slots of the graph. */
  readonly slots: number
  /** For one session at a time, in slot 0. */
  readonly solo: boolean
}

interface SlotDeps {
  readonly ort: Pick<OrtRuntime, 'createTensor'>
  readonly graph: Pick<OrtSession, 'createBinding'>
}

export function createSlotBinding<S extends Seated>(options: SlotBindingOptions, deps: SlotDeps): SlotBinding<S> {
  return new Seats(options, deps)
}

class Seats<S extends Seated> implements SlotBinding<S> {
  readonly binding: OrtBinding
  readonly #options: SlotBindingOptions
  readonly #deps: SlotDeps
  readonly #empty: KvLayer
  readonly #rows: OrtTensor
  readonly #slots: readonly Slot[]
  readonly #constants: OrtTensor[] = []
  /** In the order of use, the latest last. */
  readonly #seated = new Map<S, number>()

  constructor(options: SlotBindingOptions, deps: SlotDeps) {
    this.#options = options
    this.#deps = deps
    const { spec, span, part, slots, solo } = options
    this.binding = deps.graph.createBinding()
    const layout = kvLayout(spec)
    this.#empty = {
      keys: this.#constant('f32', [...layout.keys, 0, layout.keyWidth]),
      values: this.#constant('f32', [...layout.values, 0, layout.width]),
    }
    const [on, off] = [this.#bool(true), this.#bool(false)]
    for (let layer = span.start; layer < span.end; layer++) {
      this.binding.input(graphNames.layerOn(layer), part.start <= layer && layer < part.end ? on : off)
      for (let slot = 0; slot < slots; slot++) bindKv(this.binding, layer, slot, this.#empty)
    }
    this.#rows = this.#constant('i64', [slots])
    if (slots > 1) {
      this.binding.input(slotNames.solo, solo ? on : off)
      this.binding.input(slotNames.rows, this.#rows)
    }
    this.#slots = Array.from({ length: slots }, (_, slot) => createSlot(options, slot, this.binding, deps.ort))
  }

  place(sessions: readonly S[]): ReadonlyMap<S, number> {
    const limit = this.#options.solo ? 1 : this.#options.slots
    const staying = new Set(sessions)
    for (const session of sessions) {
      const seat = this.#seated.get(session) ?? this.#freeSeat(limit, staying)
      const isNew = !this.#seated.has(session)
      this.#seated.delete(session)
      this.#seated.set(session, seat)
      if (isNew) session.kv.layers.forEach((layer, index) => void this.#bind(index, seat, layer))
    }
    return this.#seated
  }

  arrange(work: readonly SlotRows<S>[]): void {
    const rows = new BigInt64Array(this.#rows.memory).fill(0n)
    for (const slot of this.#slots) slot.setIdle()
    for (const { session, pos, rows: count } of work) {
      const seat = this.#seated.get(session) ?? 0
      rows[seat] = BigInt(count)
      this.#slots[seat]?.setRows(pos, count, session.kv.capacity)
    }
  }

  rebind(session: S, index: number, layer: KvLayer): void {
    const seat = this.#seated.get(session)
    if (seat !== undefined) this.#bind(index, seat, layer)
  }

  leave(session: S): void {
    const seat = this.#seated.get(session)
    if (seat === undefined) return
    this.#seated.delete(session)
    // The binding keeps what is bound alive.
    for (let index = 0; index < spanLength(this.#options.part); index++) this.#bind(index, seat, this.#empty)
  }

  release(): void {
    this.binding.release()
    for (const slot of this.#slots) slot.release()
    for (const tensor of this.#constants) tensor.release()
  }

  #bind(index: number, seat: number, layer: KvLayer): void {
    bindKv(this.binding, this.#options.part.start + index, seat, layer)
  }

  /** One that nobody has, or that of the session whose last run is longest ago. */
  #freeSeat(limit: number, staying: ReadonlySet<S>): number {
    const taken = new Set(this.#seated.values())
    for (let seat = 0; seat < limit; seat++) if (!taken.has(seat)) return seat
    for (const [session, seat] of this.#seated) {
      if (staying.has(session)) continue
      this.#seated.delete(session)
      return seat
    }
    throw new RangeError('more sessions than slots')
  }

  #constant(type: 'f32' | 'i64' | 'bool', dims: readonly number[]): OrtTensor {
    const tensor = this.#deps.ort.createTensor(type, dims)
    this.#constants.push(tensor)
    return tensor
  }

  #bool(value: boolean): OrtTensor {
    const tensor = this.#constant('bool', [])
    new Uint8Array(tensor.memory)[0] = value ? 1 : 0
    return tensor
  }
}

function bindKv(binding: OrtBinding, layer: number, slot: number, { keys, values }: KvLayer): void {
  const names = slotNames.kv(layer, slot)
  binding.input(names.pastK, keys)
  binding.output(names.presentK, keys)
  binding.input(names.pastV, values)
  binding.output(names.presentV, values)
}

/** What a slot's own inputs say of the run. */
interface Slot {
  setIdle(): void
  setRows(pos: number, rows: number, capacity: number): void
  release(): void
}

function createSlot(
  { spec, slots }: SlotBindingOptions,
  slot: number,
  binding: OrtBinding,
  ort: Pick<OrtRuntime, 'createTensor'>,
): Slot {
  const at = ort.createTensor('i64', [spec.nKvHeads])
  const on = ort.createTensor('bool', [])
  new BigInt64Array(at.memory).fill(0n)
  binding.input(slotNames.at(slot), at)
  if (slots > 1) binding.input(slotNames.on(slot), on)
  const masks = windowsOf(spec).map((window) => ({ window, tensor: ort.createTensor('f32', [1, 1]) }))
  for (const { window, tensor } of masks) binding.input(slotNames.mask(slot, window), tensor)
  const flag = new Uint8Array(on.memory)
  return {
    setIdle: () => void flag.fill(0),
    setRows(pos, rows, capacity) {
      flag.fill(1)
      new BigInt64Array(at.memory).fill(BigInt(pos))
      const nRows = scoreRows(spec, rows)
      for (const mask of masks) {
        if (mask.tensor.dims[0] !== nRows || mask.tensor.dims[1] !== capacity) {
          const tensor = ort.createTensor('f32', [nRows, capacity])
          binding.input(slotNames.mask(slot, mask.window), tensor)
          mask.tensor.release()
          mask.tensor = tensor
        }
        fillMask(new Float32Array(mask.tensor.memory), { pos, rows, capacity, window: mask.window })
      }
    },
    release() {
      for (const tensor of [at, on, ...masks.map((mask) => mask.tensor)]) tensor.release()
    },
  }
}

/**
 * `mask`: as many times [rows, capacity] as there are query heads for each KV head, and the spare row, which sees
 * everything, if any: row r is position pos + r, which sees itself and what is before it, as far back as `window`.
 */
export function fillMask(
  mask: Float32Array,
  { pos, rows, capacity, window }: { pos: number; rows: number; capacity: number; window: number | null },
): void {
  for (let row = 0; row < rows; row++) {
    const start = row * capacity
    const end = pos + row + 1
    const from = window === null ? 0 : Math.max(0, end - window)
    mask.fill(Number.NEGATIVE_INFINITY, start, start + capacity).fill(0, start + from, start + end)
  }
  const size = rows * capacity
  for (let at = size; at + size <= mask.length; at += size) mask.copyWithin(at, 0, size)
  const spare = mask.length % size
  if (spare > 0) mask.fill(0, mask.length - spare)
}
