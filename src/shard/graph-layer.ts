import type { LinearRole, ModelSpec, VectorRole } from '../model/spec.ts'
import { createNodeList, type Initializers, microsoft, type NodeList, type Weight } from './graph-nodes.ts'
import { type OnnxNode, onnxTypes } from './onnx-proto.ts'

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
  const largest = nodes.add('ReduceMax', [size], `${name}.max`, { axes: { ints: [-1] }, keepdims: 1 })
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

/** The names of a layer's KV tensors: [1, nKvHeads, capacity, headDim] f32, in place (past and present are one buffer). */
export function kvNames(layer: number) {
  const p = layerName(layer)
  return { pastK: `${p}.past_k`, pastV: `${p}.past_v`, presentK: `${p}.present_k`, presentV: `${p}.present_v` }
}

/**
 * The run's place in its session. `first`: int64 [1], where its rows begin; `last`: int32 [1], where they end;
 * `total`: int32 [], positions after it. GroupQueryAttention takes the last two, a rotation of its own the first.
 */
export const positions = { first: 'first_position', last: 'last_position', total: 'total_positions' } as const

/** GroupQueryAttention turns heads whose size is a multiple of 16 itself; others are turned before it. */
export function hasFusedRotation(spec: ModelSpec): boolean {
  return spec.headDim % 16 === 0
}

/** f32 [positions, rotaryDim / 2] each. */
export const ropeTables = { cos: 'cos', sin: 'sin' } as const

const shapeNames = {
  split: 'const.qkv_split',
  mlp: 'const.mlp_split',
  heads: 'const.heads',
  q: 'const.q',
  k: 'const.k',
}

export function addLayerConstants(init: Initializers, spec: ModelSpec): void {
  const q = BigInt(spec.nHeads * spec.headDim)
  const kv = BigInt(spec.nKvHeads * spec.headDim)
  const mlp = BigInt(spec.intermediateSize)
  init.constant(shapeNames.split, 'i64', [3], BigInt64Array.of(q, kv, kv))
  init.constant(shapeNames.mlp, 'i64', [2], BigInt64Array.of(mlp, mlp))
  if (!spec.qkNorm) return
  init.constant(shapeNames.heads, 'i64', [3], BigInt64Array.of(0n, -1n, BigInt(spec.headDim)))
  init.constant(shapeNames.q, 'i64', [3], BigInt64Array.of(0n, -1n, q))
  init.constant(shapeNames.k, 'i64', [3], BigInt64Array.of(0n, -1n, kv))
}

export interface LayerBody {
  readonly nodes: readonly OnnxNode[]
  /** Names of the branch's results: hidden, present keys, present values. */
  readonly outputs: readonly [string, string, string]
}

/** One decoder layer over `hidden` [1, rows, hiddenSize] f32, as the branch that runs when the layer is on. */
export function layerBody(
  spec: ModelSpec,
  layer: number,
  hidden: string,
  w: LayerWeights,
  init: Initializers,
  kvType: KvType = 'f32',
): LayerBody {
  const p = layerName(layer)
  const nodes = createNodeList()
  const norm = (x: string, role: VectorRole, weight: Weight | undefined) => {
    if (weight === undefined) throw new TypeError(`layer ${layer} has no ${role}`)
    return addNorm(nodes, init, x, `${p}.${role}`, weight, spec.rmsNormEps)
  }
  const linear = (x: string, role: LinearRole) => addLinear(nodes, init, x, `${p}.${role}`, w.linears[role])

  const qkv = linear(norm(hidden, 'attn_norm', w.vectors.attn_norm), 'qkv')
  nodes.add('Split', [qkv, shapeNames.split], [`${p}.q`, `${p}.k`, `${p}.v`], { axis: 2 })
  const headNorm = (x: string, role: 'q_norm' | 'k_norm', shape: string) => {
    if (!spec.qkNorm) return x
    const heads = nodes.add('Reshape', [x, shapeNames.heads], `${x}.heads`)
    return nodes.add('Reshape', [norm(heads, role, w.vectors[role]), shape], `${x}.flat`)
  }
  const q = headNorm(`${p}.q`, 'q_norm', shapeNames.q)
  const k = headNorm(`${p}.k`, 'k_norm', shapeNames.k)
  const outputs: [string, string, string] = [`${p}.out_on`, `${p}.present_k_on`, `${p}.present_v_on`]
  const results = [`${p}.attention`, outputs[1], outputs[2]]
  const attention = addAttention(nodes, spec, layer, [q, k, `${p}.v`], results, kvType)

  const afterAttention = nodes.add('Add', [hidden, linear(attention, 'o')], `${p}.residual`)
  const gateUp = linear(norm(afterAttention, 'mlp_norm', w.vectors.mlp_norm), 'gate_up')
  nodes.add('Split', [gateUp, shapeNames.mlp], [`${p}.gate`, `${p}.up`], { axis: 2 })
  const sigmoid = nodes.add('Sigmoid', [`${p}.gate`], `${p}.sigmoid`)
  const silu = nodes.add('Mul', [`${p}.gate`, sigmoid], `${p}.silu`)
  const product = nodes.add('Mul', [silu, `${p}.up`], `${p}.mlp`)
  nodes.add('Add', [afterAttention, linear(product, 'down')], outputs[0])
  return { nodes: nodes.nodes, outputs }
}

/** What attention computes in and keeps: f16 where a GPU knows no other; everything around it stays f32. */
export type KvType = 'f32' | 'f16'

/** Attention of one session over its KV, rotation included (GroupQueryAttention of com.microsoft). */
function addAttention(
  nodes: NodeList,
  spec: ModelSpec,
  layer: number,
  [q, k, v]: readonly [string, string, string],
  outputs: readonly string[],
  kvType: KvType,
): string {
  const kv = kvNames(layer)
  const cast = (x: string, type: KvType) =>
    nodes.add('Cast', [x], `${layerName(layer)}.${x}.${type}`, { to: onnxTypes[type] })
  const halved = (x: string) => (kvType === 'f16' ? cast(x, 'f16') : x)
  const window = spec.layers[layer]?.slidingWindow ?? null
  const fused = hasFusedRotation(spec)
  const turned = (x: string, heads: number) => {
    if (fused) return x
    const attributes = { num_heads: heads, rotary_embedding_dim: spec.rope.rotaryDim, interleaved: 0 }
    const inputs = [x, positions.first, ropeTables.cos, ropeTables.sin]
    return nodes.add('RotaryEmbedding', inputs, `${x}.turned`, attributes, microsoft)
  }
  const tables = fused ? [halved(ropeTables.cos), halved(ropeTables.sin)] : []
  const [result = '', ...present] = outputs
  const attention = kvType === 'f16' ? `${result}.f16` : result
  nodes.add(
    'GroupQueryAttention',
    [
      halved(turned(q, spec.nHeads)),
      halved(turned(k, spec.nKvHeads)),
      halved(v),
      kv.pastK,
      kv.pastV,
      positions.last,
      positions.total,
      ...tables,
    ],
    [attention, ...present],
    {
      num_heads: spec.nHeads,
      kv_num_heads: spec.nKvHeads,
      scale: { float: 1 / Math.sqrt(spec.headDim) },
      do_rotary: fused ? 1 : 0,
      rotary_interleaved: 0,
      local_window_size: window ?? -1,
    },
    microsoft,
  )
  return kvType === 'f16' ? nodes.add('Cast', [attention], result, { to: onnxTypes.f32 }) : attention
}
