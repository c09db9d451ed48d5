import type { ModelSpec } from '../model/spec.ts'
import { type AttentionForm, type HeadNorm, type KvTensor, layerName, onName, ropeTables } from './graph-layer.ts'
import { type Initializers, microsoft, type NodeList, valueInfo } from './graph-nodes.ts'
import { onnxTypes } from './onnx-proto.ts'

/** The names of a layer's KV tensors: [1, nKvHeads, capacity, headDim] f16, in place (past and present are one buffer). */
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

const shapeNames = {
  split: 'const.qkv_split',
  heads: 'const.heads',
  q: 'const.q',
  k: 'const.k',
}

/**
 * Attention of one session as one operator, in f16: what a GPU has (GroupQueryAttention of com.microsoft). Everything
 * around it stays f32.
 */
export function fusedAttention(spec: ModelSpec): AttentionForm {
  const inputs = [valueInfo(positions.last, 'i32', [1]), valueInfo(positions.total, 'i32', [])]
  if (!hasFusedRotation(spec)) inputs.push(valueInfo(positions.first, 'i64', [1]))
  return {
    inputs,
    addConstants: (init) => addConstants(init, spec),
    kv(layer): readonly KvTensor[] {
      const names = kvNames(layer)
      const dims = (length: string) => [1, spec.nKvHeads, `${layerName(layer)}.${length}`, spec.headDim]
      const tensor = (past: string, present: string): KvTensor => {
        return { past, present, type: 'f16', pastDims: dims('past'), presentDims: dims('present') }
      }
      return [tensor(names.pastK, names.presentK), tensor(names.pastV, names.presentV)]
    },
    attend: (nodes, layer, qkv, headNorm) => attend(nodes, spec, layer, qkv, headNorm),
  }
}

function addConstants(init: Initializers, spec: ModelSpec): void {
  const q = BigInt(spec.nHeads * spec.headDim)
  const kv = BigInt(spec.nKvHeads * spec.headDim)
  init.constant(shapeNames.split, 'i64', [3], BigInt64Array.of(q, kv, kv))
  if (!spec.qkNorm) return
  init.constant(shapeNames.heads, 'i64', [3], BigInt64Array.of(0n, -1n, BigInt(spec.headDim)))
  init.constant(shapeNames.q, 'i64', [3], BigInt64Array.of(0n, -1n, q))
  init.constant(shapeNames.k, 'i64', [3], BigInt64Array.of(0n, -1n, kv))
}

function attend(nodes: NodeList, spec: ModelSpec, layer: number, qkv: string, headNorm: HeadNorm): string {
  const p = layerName(layer)
  const kv = kvNames(layer)
  const fused = hasFusedRotation(spec)
  nodes.add('Split', [qkv, shapeNames.split], [`${p}.q`, `${p}.k`, `${p}.v`], { axis: 2 })
  const normed = (x: string, role: 'q_norm' | 'k_norm', shape: string) => {
    if (!spec.qkNorm) return x
    const heads = nodes.add('Reshape', [x, shapeNames.heads], `${x}.heads`)
    return nodes.add('Reshape', [headNorm(heads, role), shape], `${x}.flat`)
  }
  const halved = (x: string) => nodes.add('Cast', [x], `${p}.${x}.f16`, { to: onnxTypes.f16 })
  const turned = (x: string, heads: number) => {
    if (fused) return x
    const attributes = { num_heads: heads, rotary_embedding_dim: spec.rope.rotaryDim, interleaved: 0 }
    const inputs = [x, positions.first, ropeTables.cos, ropeTables.sin]
    return nodes.add('RotaryEmbedding', inputs, `${x}.turned`, attributes, microsoft)
  }
  const q = normed(`${p}.q`, 'q_norm', shapeNames.q)
  const k = normed(`${p}.k`, 'k_norm', shapeNames.k)
  const tables = fused ? [halved(ropeTables.cos), halved(ropeTables.sin)] : []
  const attention = `${p}.attention.f16`
  nodes.add(
    'GroupQueryAttention',
    [
      halved(turned(q, spec.nHeads)),
      halved(turned(k, spec.nKvHeads)),
      halved(`${p}.v`),
      kv.pastK,
      kv.pastV,
      positions.last,
      positions.total,
      ...tables,
    ],
    [attention, onName(kv.presentK), onName(kv.presentV)],
    {
      num_heads: spec.nHeads,
      kv_num_heads: spec.nKvHeads,
      scale: { float: 1 / Math.sqrt(spec.headDim) },
      do_rotary: fused ? 1 : 0,
      rotary_interleaved: 0,
      local_window_size: spec.layers[layer]?.slidingWindow ?? -1,
    },
    microsoft,
  )
  return nodes.add('Cast', [attention], `${p}.attention`, { to: onnxTypes.f32 })
}
