import type { ModelSpec } from '../model/spec.ts'
import { type AttentionForm, type HeadNorm, type KvTensor, layerName, onName, ropeTables } from './graph-layer.ts'
import { createNodeList, type Initializers, microsoft, type NodeList, valueInfo } from './graph-nodes.ts'
import type { OnnxValueInfo } from './onnx-proto.ts'

/** Weights of a layer below which a slot that stands empty costs a step more than it can bring (measured, 2 cores). */
const worthwhileWeights = 1_000_000

/** Sessions that share one run of this model: an empty slot costs a lone session about 2 µs a layer (docs/adr/0010). */
export function suggestedSlots(spec: ModelSpec): number {
  const [first] = spec.layers
  const weights = first?.linears.reduce((sum, { k, n }) => sum + k * n, 0) ?? 0
  return weights < worthwhileWeights ? 4 : 8
}

/**
 * How keys and values of a layer lie in memory, f32: keys [nKvHeads, capacity, headDim], values [nKvHeads, blocks,
 * capacity, width]. The kernel copies values before it multiplies them; in blocks of 16 columns it reads them straight
 * through (measured: 0.65 ms instead of 0.95 for 1,920 positions of 8 heads × 128).
 */
export function kvLayout(spec: { readonly nKvHeads: number; readonly headDim: number }) {
  const width = spec.headDim % 16 === 0 ? 16 : spec.headDim
  return { keys: [spec.nKvHeads], keyWidth: spec.headDim, values: [spec.nKvHeads, spec.headDim / width], width }
}

/** Rows of a slot's scores: each of its rows once for every query head of a KV head, and never a single one. */
export function scoreRows(spec: { readonly nHeads: number; readonly nKvHeads: number }, rows: number): number {
  const group = spec.nHeads / spec.nKvHeads
  return group * rows + (group === 1 ? 1 : 0)
}

/** Distinct reaches of attention among the layers: null sees everything before it. */
export function windowsOf(spec: ModelSpec): readonly (number | null)[] {
  return [...new Set(spec.layers.map((layer) => layer.slidingWindow))]
}

const s = (slot: number) => `S${slot}`

/** Inputs of the graph that say which rows belong to which session. */
export const slotNames = {
  /** bool []: all rows belong to slot 0; what is said about the others does not count. */
  solo: 'solo',
  /** i64 [slots]: rows of each slot, in their order. */
  rows: 'slot_rows',
  /** i64 [1, rows]: each row's position in its session. */
  positions: 'row_positions',
  /** bool []: the slot has rows. */
  on: (slot: number) => `${s(slot)}.on`,
  /** i64 [nKvHeads], all the same: where the slot's rows begin. */
  at: (slot: number) => `${s(slot)}.at`,
  /** f32 [scoreRows, capacity]: 0 where a row sees a position of its session, −∞ elsewhere. */
  mask: (slot: number, window: number | null) => `${s(slot)}.mask${window === null ? '' : `.${window}`}`,
  kv(layer: number, slot: number) {
    const p = `${layerName(layer)}.${s(slot)}`
    return { pastK: `${p}.past_k`, pastV: `${p}.past_v`, presentK: `${p}.present_k`, presentV: `${p}.present_v` }
  },
} as const

/**
 * Attention of up to `slots` sessions side by side: norms, matrices and rotation take the rows of all together, and each
 * session's rows then meet its own keys and values. Written as plain products, with the query heads of one KV head as
 * rows of one matrix: keys and values are read once for all of them, and a row's bits depend neither on the number of
 * rows nor on the capacity of the KV (engine.md §6, docs/adr/0010).
 */
export function slotAttention(spec: ModelSpec, slots: number): AttentionForm {
  const every = Array.from({ length: slots }, (_, slot) => slot)
  return {
    inputs: slotInputs(spec, every),
    addConstants: (init) => addConstants(init, spec),
    kv: (layer) => every.flatMap((slot) => kvTensors(spec, layer, slot)),
    attend: (nodes, layer, qkv, headNorm) => attend(nodes, { spec, layer, slots: every }, qkv, headNorm),
  }
}

function slotInputs(spec: ModelSpec, slots: readonly number[]): OnnxValueInfo[] {
  const inputs = [valueInfo(slotNames.positions, 'i64', [1, 'rows'])]
  for (const slot of slots) {
    inputs.push(valueInfo(slotNames.at(slot), 'i64', [spec.nKvHeads]))
    for (const window of windowsOf(spec)) {
      inputs.push(valueInfo(slotNames.mask(slot, window), 'f32', [`${s(slot)}.rows`, `${s(slot)}.capacity`]))
    }
  }
  if (slots.length === 1) return inputs
  for (const slot of slots) inputs.push(valueInfo(slotNames.on(slot), 'bool', []))
  return [...inputs, valueInfo(slotNames.solo, 'bool', []), valueInfo(slotNames.rows, 'i64', [slots.length])]
}

function kvTensors(spec: ModelSpec, layer: number, slot: number): readonly KvTensor[] {
  const { keys, keyWidth, values, width } = kvLayout(spec)
  const names = slotNames.kv(layer, slot)
  const p = `${layerName(layer)}.${s(slot)}`
  const tensor = (past: string, present: string, blocks: readonly number[], columns: number): KvTensor => {
    const dims = (length: string) => [...blocks, `${p}.${length}`, columns]
    return { past, present, type: 'f32', pastDims: dims('past'), presentDims: dims('present') }
  }
  return [tensor(names.pastK, names.presentK, keys, keyWidth), tensor(names.pastV, names.presentV, values, width)]
}

const c = {
  qkv: 'const.qk_v',
  heads: 'const.heads',
  qk: 'const.q_k',
  keys: 'const.keys',
  values: 'const.values',
  rows: 'const.score_rows',
  blocks: 'const.blocks',
  flat: 'const.attention',
  axis: 'const.axis_1',
  noRows: 'const.no_rows',
  spareRow: 'const.spare_row',
  first: 'const.first',
  last: 'const.last',
  rowAxis: 'const.axis_2',
}

function addConstants(init: Initializers, spec: ModelSpec): void {
  const { nHeads, nKvHeads, headDim } = spec
  const { values, width } = kvLayout(spec)
  const group = nHeads / nKvHeads
  const shape = (name: string, ...dims: number[]) =>
    init.constant(name, 'i64', [dims.length], BigInt64Array.from(dims, BigInt))
  shape(c.qkv, (nHeads + nKvHeads) * headDim, nKvHeads * headDim)
  shape(c.heads, 1, -1, nHeads + nKvHeads, headDim)
  shape(c.qk, nHeads, nKvHeads)
  shape(c.keys, nKvHeads, -1, headDim)
  shape(c.values, -1, ...values, width)
  shape(c.blocks, ...values, group, -1, width)
  shape(c.flat, 1, -1, nHeads * headDim)
  shape(c.axis, 1)
  init.constant(c.noRows, 'f32', [...values, group, 0, width], new Float32Array(0))
  if (group > 1) return
  init.constant(c.spareRow, 'f32', [nKvHeads, 1, headDim], new Float32Array(nKvHeads * headDim))
  shape(c.first, 0)
  shape(c.last, -1)
  shape(c.rowAxis, 2)
}

interface Place {
  readonly spec: ModelSpec
  readonly layer: number
  readonly slots: readonly number[]
}

function attend(nodes: NodeList, place: Place, qkv: string, headNorm: HeadNorm): string {
  const { spec, layer, slots } = place
  const p = layerName(layer)
  const { nHeads, nKvHeads } = spec
  nodes.add('Split', [qkv, c.qkv], [`${p}.qk`, `${p}.v_rows`], { axis: 2 })
  const heads = nodes.add('Reshape', [`${p}.qk`, c.heads], `${p}.qk_rows`)
  // [1, heads, rows, headDim]
  const byHead = nodes.add('Transpose', [heads], `${p}.qk_heads`, { perm: { ints: [0, 2, 1, 3] } })
  const turned = (x: string, count: number, name: string) => {
    const attributes = { num_heads: count, rotary_embedding_dim: spec.rope.rotaryDim, interleaved: 0 }
    const inputs = [x, slotNames.positions, ropeTables.cos, ropeTables.sin]
    return nodes.add('RotaryEmbedding', inputs, name, attributes, microsoft)
  }
  const [q, k] = [`${p}.q`, `${p}.k`]
  if (spec.qkNorm) {
    nodes.add('Split', [byHead, c.qk], [`${p}.q0`, `${p}.k0`], { axis: 1 })
    turned(headNorm(`${p}.q0`, 'q_norm'), nHeads, q)
    turned(headNorm(`${p}.k0`, 'k_norm'), nKvHeads, k)
  } else {
    nodes.add('Split', [turned(byHead, nHeads + nKvHeads, `${p}.qk_turned`), c.qk], [q, k], { axis: 1 })
  }
  const v = nodes.add('Reshape', [`${p}.v_rows`, c.values], `${p}.v_blocks`)
  const rows: Rows = {
    q,
    // [nKvHeads, rows, headDim] and [nKvHeads, blocks, rows, width], as they lie in the KV.
    k: nodes.add('Reshape', [k, c.keys], `${p}.k_rows`),
    v: nodes.add('Transpose', [v], `${p}.v`, { perm: { ints: [1, 2, 0, 3] } }),
  }
  const weighted = slots.length === 1 ? attendAlone(nodes, place, rows, onName) : addChoice(nodes, place, rows)
  // [nKvHeads, blocks, group, rows, width] → [rows, nKvHeads, group, blocks, width]
  const inRows = nodes.add('Transpose', [weighted], `${p}.attention_rows`, { perm: { ints: [3, 0, 2, 1, 4] } })
  return nodes.add('Reshape', [inRows, c.flat], `${p}.attention`)
}

/** Names of the rows that one or several sessions bring. */
interface Rows {
  readonly q: string
  readonly k: string
  readonly v: string
}

type Rename = (result: string) => string

/** A lone session runs without asking the other slots one by one. Returns [nKvHeads, blocks, group, rows, width]. */
function addChoice(nodes: NodeList, place: Place, rows: Rows): string {
  const { spec, layer, slots } = place
  const result = `${layerName(layer)}.weighted`
  const results = [result, ...slots.flatMap((slot) => presentNames(layer, slot))]
  const branch = (name: string, build: (list: NodeList, rename: Rename) => string) => {
    const list = createNodeList()
    const rename: Rename = (x) => `${x}.${name}`
    const first = build(list, rename)
    const output = [first, ...results.slice(1).map(rename)].map((x) => valueInfo(x, 'f32'))
    return { graph: { name: rename(result), node: list.nodes, output } }
  }
  nodes.add('If', [slotNames.solo], [result, ...results.slice(1).map(onName)], {
    then_branch: branch('alone', (list, rename) => {
      for (const slot of slots.slice(1)) addIdle(list, layer, slot, rename)
      return attendAlone(list, { spec, layer, slots }, rows, rename)
    }),
    else_branch: branch('together', (list, rename) => attendTogether(list, place, rows, rename)),
  })
  return result
}

function presentNames(layer: number, slot: number): readonly [string, string] {
  const { presentK, presentV } = slotNames.kv(layer, slot)
  return [presentK, presentV]
}

/** The keys and values of a slot without rows pass as they are. */
function addIdle(nodes: NodeList, layer: number, slot: number, rename: Rename): void {
  const kv = slotNames.kv(layer, slot)
  nodes.add('Identity', [kv.pastK], rename(kv.presentK))
  nodes.add('Identity', [kv.pastV], rename(kv.presentV))
}

function attendAlone(nodes: NodeList, { spec, layer }: Place, rows: Rows, rename: Rename): string {
  return addSlot(nodes, { spec, layer, slot: 0 }, rows, rename, rename(`${layerName(layer)}.alone`))
}

function attendTogether(nodes: NodeList, { spec, layer, slots }: Place, rows: Rows, rename: Rename): string {
  const p = layerName(layer)
  const parts = (x: string, axis: number) => {
    const names = slots.map((slot) => `${x}.${s(slot)}`)
    nodes.add('Split', [x, slotNames.rows], names, { axis })
    return names
  }
  const [q, k, v] = [parts(rows.q, 2), parts(rows.k, 1), parts(rows.v, 2)]
  const results = slots.map((slot) => {
    const result = `${p}.${s(slot)}.weighted`
    const own = { q: q[slot] ?? '', k: k[slot] ?? '', v: v[slot] ?? '' }
    const names = [result, ...presentNames(layer, slot)]
    const branch = (name: string, build: (list: NodeList, rename: Rename) => void) => {
      const list = createNodeList()
      const inner: Rename = (x) => `${x}.${name}`
      build(list, inner)
      return { graph: { name: inner(result), node: list.nodes, output: names.map((x) => valueInfo(inner(x), 'f32')) } }
    }
    nodes.add('If', [slotNames.on(slot)], [result, ...names.slice(1).map(rename)], {
      then_branch: branch('busy', (list, inner) => addSlot(list, { spec, layer, slot }, own, inner, inner(result))),
      else_branch: branch('idle', (list, inner) => {
        list.add('Identity', [c.noRows], inner(result))
        addIdle(list, layer, slot, inner)
      }),
    })
    return result
  })
  return nodes.add('Concat', results, rename(`${p}.joined`), { axis: 3 })
}

/** Attention of one session's rows over its keys and values. Returns [nKvHeads, blocks, group, rows, width]. */
function addSlot(
  nodes: NodeList,
  { spec, layer, slot }: { spec: ModelSpec; layer: number; slot: number },
  rows: Rows,
  rename: Rename,
  result: string,
): string {
  const p = `${layerName(layer)}.${s(slot)}`
  const kv = slotNames.kv(layer, slot)
  const name = (x: string) => rename(`${p}.${x}`)
  const isSpare = spec.nHeads === spec.nKvHeads
  const at = slotNames.at(slot)
  const keys = nodes.add('TensorScatter', [kv.pastK, rows.k, at], rename(kv.presentK), { axis: -2 })
  const values = nodes.add('TensorScatter', [kv.pastV, rows.v, at], rename(kv.presentV), { axis: -2 })
  // A matrix of one row goes through another kernel: where every KV head has one query head, a row of zeros joins it.
  const grouped = nodes.add('Reshape', [rows.q, c.keys], name('q'))
  const queries = isSpare ? nodes.add('Concat', [grouped, c.spareRow], name('q_spare'), { axis: 1 }) : grouped
  const scale = { transB: 1, alpha: { float: 1 / Math.sqrt(spec.headDim) } }
  const scores = nodes.add('FusedMatMul', [queries, keys], name('scores'), scale, microsoft)
  const mask = slotNames.mask(slot, spec.layers[layer]?.slidingWindow ?? null)
  const weights = nodes.add('Softmax', [nodes.add('Add', [scores, mask], name('seen'))], name('weights'), { axis: -1 })
  // [nKvHeads, 1, scoreRows, capacity] × [nKvHeads, blocks, capacity, width]
  const spread = nodes.add('Unsqueeze', [weights, c.axis], name('spread'))
  const product = nodes.add('MatMul', [spread, values], name('product'))
  const cut = isSpare ? nodes.add('Slice', [product, c.first, c.last, c.rowAxis], name('cut')) : product
  return nodes.add('Reshape', [cut, c.blocks], result)
}
