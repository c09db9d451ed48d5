import type { LinearRole, ModelSpec, VectorRole } from '../model/spec.ts'
import { createNodeList, type Initializers, microsoft, type NodeList, type Weight } from './graph-nodes.ts'
import type { OnnxNode, OnnxType, OnnxValueInfo } from './onnx-proto.ts'

/** The packed tensors of one matrix, x[rows, k] · W[k, n], as its recipe stores them. */
export type LinearWeights = { readonly k: number; readonly n: number; readonly bias?: Weight } & (
  | { readonly kind: 'f32'; readonly weight: Weight }
  | {
      readonly kind: 'nbits'
      readonly bits: 4 | 8
      readonly block: number
      readonly q: Weight
      readonly scales: Weight
    }
  | { readonly kind: 'i8'; readonly q: Weight; readonly scales: Weight }
)

export interface LayerWeights {
  readonly linears: Readonly<Record<LinearRole, LinearWeights>>
  readonly vectors: Readonly<Partial<Record<VectorRole, Weight>>>
}

/** Inline constants that several nodes share; added once per graph. */
const shared = {
  i8Factor: 'const.1/127',
  i8Floor: 'const.floor',
  i8One: 'const.one',
  i8Zero: 'const.128',
  flat: 'const.flat',
  lastAxis: 'const.last_axis',
} as const

/** u8 [rows], all 128: the zero points of the quantised rows. A graph input, because its length is that of the run. */
export const rowZeroPoints = 'row_zero_points'

export function addI8Constants(init: Initializers): void {
  init.constant(shared.i8Factor, 'f32', [], Float32Array.of(1 / 127))
  // An all-zero row would have scale 0, and 0 / 0 is NaN. Any positive scale gives the right result: zeros.
  init.constant(shared.i8Floor, 'f32', [], Float32Array.of(1e-30))
  init.constant(shared.i8One, 'f32', [], Float32Array.of(1))
  init.constant(shared.i8Zero, 'u8', [], Uint8Array.of(128))
  init.constant(shared.flat, 'i64', [1], BigInt64Array.of(-1n))
  init.constant(shared.lastAxis, 'i64', [1], BigInt64Array.of(-1n))
}

/**
 * y = x · W (+ bias), x: [1, rows, k] f32. The i8 way: every row is quantised by its own largest value, multiplied in
 * integers, and scaled back (engine.md §3, recipe i8/1).
 */
export function addLinear(nodes: NodeList, init: Initializers, x: string, name: string, w: LinearWeights): string {
  const product = w.bias === undefined ? name : `${name}.product`
  if (w.kind === 'f32') nodes.add('MatMul', [x, init.weight(`${name}.weight`, w.weight)], product)
  else {
    const q = init.weight(`${name}.q`, w.q)
    const scales = init.weight(`${name}.scales`, w.scales)
    if (w.kind === 'nbits') {
      // accuracy_level 4: integer arithmetic. With 0, 8 bits are 50 times slower (engine.md §3).
      const attributes = { K: w.k, N: w.n, bits: w.bits, block_size: w.block, accuracy_level: 4 }
      nodes.add('MatMulNBits', [x, q, scales], product, attributes, microsoft)
    } else addI8Product(nodes, x, name, product, q, scales)
  }
  if (w.bias !== undefined) nodes.add('Add', [product, init.weight(`${name}.bias`, w.bias)], name)
  return name
}

function addI8Product(nodes: NodeList, x: string, name: string, product: string, q: string, scales: string): void {
  const size = nodes.add('Abs', [x], `${name}.abs`)
  const largest = nodes.add('ReduceMax', [size, shared.lastAxis], `${name}.max`, { keepdims: 1 })
  const step = nodes.add('Mul', [largest, shared.i8Factor], `${name}.step0`)
  const rowScale = nodes.add('Max', [step, shared.i8Floor], `${name}.step`)
  const flatScale = nodes.add('Reshape', [rowScale, shared.flat], `${name}.steps`)
  const rows = nodes.add('QuantizeLinear', [x, flatScale, rowZeroPoints], `${name}.rows`, { axis: 1 })
  const sums = nodes.add(
    'MatMulIntegerToFloat',
    [rows, q, shared.i8One, scales, shared.i8Zero],
    `${name}.sums`,
    {},
    microsoft,
  )
  nodes.add('Mul', [sums, rowScale], product)
}

/** RMS norm over the last axis; `weight`: [size] f32. */
export function addNorm(nodes: NodeList, init: Initializers, x: string, name: string, weight: Weight, eps: number) {
  const attributes = { axis: -1, epsilon: { float: eps }, stash_type: 1 }
  return nodes.add('SimplifiedLayerNormalization', [x, init.weight(`${name}.weight`, weight)], name, attributes)
}

export const layerName = (layer: number) => `L${layer}`

/** f32 [positions, rotaryDim / 2] each. */
export const ropeTables = { cos: 'cos', sin: 'sin' } as const

const mlpSplit = 'const.mlp_split'

export function addLayerConstants(init: Initializers, spec: ModelSpec): void {
  const mlp = BigInt(spec.intermediateSize)
  init.constant(mlpSplit, 'i64', [2], BigInt64Array.of(mlp, mlp))
}

/** A KV tensor of a layer: the graph's input `past` and its output `present`, which are one buffer (in place). */
export interface KvTensor {
  readonly past: string
  readonly present: string
  readonly type: OnnxType
  /** Past and present have different names for their length, or an empty past would not match a full present. */
  readonly pastDims: readonly (number | string)[]
  readonly presentDims: readonly (number | string)[]
}

/** Norm of a layer's heads, over the last axis; the same rows where the model has none. */
export type HeadNorm = (x: string, role: 'q_norm' | 'k_norm') => string

/** One way to compute attention: what it needs of the graph, and its nodes. */
export interface AttentionForm {
  /** Inputs of the whole graph, beyond the rows. */
  readonly inputs: readonly OnnxValueInfo[]
  addConstants(init: Initializers): void
  kv(layer: number): readonly KvTensor[]
  /**
   * Attention over `qkv` [1, rows, (nHeads + 2 · nKvHeads) · headDim]. Returns [1, rows, nHeads · headDim]; every KV
   * tensor's result is named `onName(present)`.
   */
  attend(nodes: NodeList, layer: number, qkv: string, headNorm: HeadNorm): string
}

/** The name of a result of the branch that runs when the layer is on, and when it is off. */
export const onName = (result: string) => `${result}.on`
export const offName = (result: string) => `${result}.off`

/** One decoder layer over `hidden` [1, rows, hiddenSize] f32, the result named `result`: what runs when it is on. */
export function layerBody(
  spec: ModelSpec,
  layer: number,
  [hidden, result]: readonly [string, string],
  w: LayerWeights,
  init: Initializers,
  form: AttentionForm,
): readonly OnnxNode[] {
  const p = layerName(layer)
  const nodes = createNodeList()
  const norm = (x: string, role: VectorRole) => {
    const weight = w.vectors[role]
    if (weight === undefined) throw new TypeError(`layer ${layer} has no ${role}`)
    return addNorm(nodes, init, x, `${p}.${role}`, weight, spec.rmsNormEps)
  }
  const linear = (x: string, role: LinearRole) => addLinear(nodes, init, x, `${p}.${role}`, w.linears[role])

  const qkv = linear(norm(hidden, 'attn_norm'), 'qkv')
  const attention = form.attend(nodes, layer, qkv, (x, role) => (spec.qkNorm ? norm(x, role) : x))
  const afterAttention = nodes.add('Add', [hidden, linear(attention, 'o')], `${p}.residual`)
  const gateUp = linear(norm(afterAttention, 'mlp_norm'), 'gate_up')
  nodes.add('Split', [gateUp, mlpSplit], [`${p}.gate`, `${p}.up`], { axis: 2 })
  const sigmoid = nodes.add('Sigmoid', [`${p}.gate`], `${p}.sigmoid`)
  const silu = nodes.add('Mul', [`${p}.gate`, sigmoid], `${p}.silu`)
  const product = nodes.add('Mul', [silu, `${p}.up`], `${p}.mlp`)
  nodes.add('Add', [afterAttention, linear(product, 'down')], onName(result))
  return nodes.nodes
}
