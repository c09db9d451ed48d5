import type { Span } from '../base/span.ts'
import type { ModelSpec } from '../model/spec.ts'
import { fusedAttention, kvNames, positions } from './graph-fused.ts'
import {
  addI8Constants,
  addLayerConstants,
  addLinear,
  addNorm,
  type LayerWeights,
  type LinearWeights,
  layerBody,
  layerName,
  offName,
  onName,
  ropeTables,
  rowZeroPoints,
} from './graph-layer.ts'
import { createInitializers, createNodeList, valueInfo, type Weight } from './graph-nodes.ts'
import { slotAttention, suggestedSlots } from './graph-slots.ts'
import { encodeModel, type OnnxValueInfo } from './onnx-proto.ts'
import type { RecipeId } from './recipe.ts'

/** Part of the numerics class: any change of the graphs' arithmetic is a new number (engine.md §6.4). */
export const graphVersion = 2

/** Names of the graphs' inputs and outputs. `hidden`, `out`: [1, rows, hiddenSize] f32; `logits`: [1, rows, vocab] f32. */
export const graphNames = {
  hidden: 'hidden',
  out: 'out',
  logits: 'logits',
  rowZeroPoints,
  ...positions,
  ...ropeTables,
  kv: kvNames,
  /** bool []: the layer runs; otherwise it passes `hidden` on and its KV tensors have length 0. */
  layerOn: (layer: number) => `${layerName(layer)}.on`,
} as const

/** Rows that are quantised one by one need their zero points as an input. */
export const usesRowZeroPoints = (recipe: RecipeId) => recipe === 'i8/1'

/** What attention computes in and keeps: f16 where a GPU knows no other; everything around it stays f32. */
export type KvType = 'f32' | 'f16'

/**
 * The graph of a span, as ONNX: every layer sits inside `If(on)`, so that one loaded graph runs any part of the span
 * with the same arithmetic (engine.md §4). `kvType` f32: attention of several sessions side by side (graph-slots.ts);
 * f16: of one (graph-fused.ts).
 */
export function buildSpanGraph(options: {
  spec: ModelSpec
  recipe: RecipeId
  span: Span
  weights: (layer: number) => LayerWeights
  kvType?: KvType
  /** Sessions side by side; default suggestedSlots. */
  slots?: number | undefined
}): Uint8Array {
  const { spec, span, kvType = 'f32', slots = suggestedSlots(spec) } = options
  const form = kvType === 'f16' ? fusedAttention(spec) : slotAttention(spec, slots)
  const init = createInitializers()
  const nodes = createNodeList()
  const input: OnnxValueInfo[] = [
    valueInfo(graphNames.hidden, 'f32', [1, 'rows', spec.hiddenSize]),
    valueInfo(graphNames.cos, 'f32', ['positions', spec.rope.rotaryDim / 2]),
    valueInfo(graphNames.sin, 'f32', ['positions', spec.rope.rotaryDim / 2]),
    ...form.inputs,
  ]
  const output: OnnxValueInfo[] = [valueInfo(graphNames.out, 'f32', [1, 'rows', spec.hiddenSize])]
  addLayerConstants(init, spec)
  form.addConstants(init)
  if (usesRowZeroPoints(options.recipe)) {
    addI8Constants(init)
    input.push(valueInfo(graphNames.rowZeroPoints, 'u8', ['rows']))
  }
  let hidden: string = graphNames.hidden
  for (let layer = span.start; layer < span.end; layer++) {
    const p = layerName(layer)
    const result = layer === span.end - 1 ? graphNames.out : `${p}.out`
    const kv = form.kv(layer)
    input.push(valueInfo(graphNames.layerOn(layer), 'bool', []))
    input.push(...kv.map(({ past, type, pastDims }) => valueInfo(past, type, pastDims)))
    output.push(...kv.map(({ present, type, presentDims }) => valueInfo(present, type, presentDims)))
    const on = layerBody(spec, layer, [hidden, result], options.weights(layer), init, form)
    const off = createNodeList()
    off.add('Identity', [hidden], offName(result))
    for (const { past, present } of kv) off.add('Identity', [past], offName(present))
    const branch = (name: string, node: typeof on, rename: (result: string) => string) => {
      const results = [valueInfo(rename(result), 'f32'), ...kv.map((x) => valueInfo(rename(x.present), x.type))]
      return { graph: { name, node, output: results } }
    }
    hidden = nodes.add('If', [graphNames.layerOn(layer)], [result, ...kv.map(({ present }) => present)], {
      then_branch: branch(`${p}.then`, on, onName),
      else_branch: branch(`${p}.else`, off.nodes, offName),
    })
  }
  return encodeModel({ name: 'span', node: nodes.nodes, initializer: init.tensors, input, output })
}

/** The graph of final norm and head: hidden [1, rows, hiddenSize] → logits [1, rows, vocab]. */
export function buildHeadGraph(options: {
  spec: ModelSpec
  recipe: RecipeId
  finalNorm: Weight
  head: LinearWeights
}): Uint8Array {
  const { spec, recipe } = options
  const init = createInitializers()
  const nodes = createNodeList()
  const input = [valueInfo(graphNames.hidden, 'f32', [1, 'rows', spec.hiddenSize])]
  if (usesRowZeroPoints(recipe)) {
    addI8Constants(init)
    input.push(valueInfo(graphNames.rowZeroPoints, 'u8', ['rows']))
  }
  const normed = addNorm(nodes, init, graphNames.hidden, 'final_norm', options.finalNorm, spec.rmsNormEps)
  addLinear(nodes, init, normed, graphNames.logits, options.head)
  const output = [valueInfo(graphNames.logits, 'f32', [1, 'rows', spec.vocabSize])]
  return encodeModel({ name: 'head', node: nodes.nodes, initializer: init.tensors, input, output })
}
