import type { Span } from '../base/span.ts'
import type { ModelSpec } from '../model/spec.ts'
import {
  addI8Constants,
  addLayerConstants,
  addLinear,
  addNorm,
  hasFusedRotation,
  type KvType,
  kvNames,
  type LayerWeights,
  type LinearWeights,
  layerBody,
  layerName,
  positions,
  ropeTables,
  rowZeroPoints,
} from './graph-layer.ts'
import { createInitializers, createNodeList, valueInfo, type Weight } from './graph-nodes.ts'
import { encodeModel, type OnnxValueInfo } from './onnx-proto.ts'
import type { RecipeId } from './recipe.ts'

/** Part of the numerics class: any change of the graphs' arithmetic is a new number (engine.md §6.4). */
export const graphVersion = 1

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

/**
 * The graph of a span, as ONNX: every layer sits inside `If(on)`, so that one loaded graph runs any part of the span
 * with the same arithmetic (engine.md §4).
 */
export function buildSpanGraph(options: {
  spec: ModelSpec
  recipe: RecipeId
  span: Span
  weights: (layer: number) => LayerWeights
  kvType?: KvType
}): Uint8Array {
  const { spec, span, kvType = 'f32' } = options
  const init = createInitializers()
  const nodes = createNodeList()
  const input: OnnxValueInfo[] = [
    valueInfo(graphNames.hidden, 'f32', [1, 'rows', spec.hiddenSize]),
    valueInfo(graphNames.last, 'i32', [1]),
    valueInfo(graphNames.total, 'i32', []),
    valueInfo(graphNames.cos, 'f32', ['positions', spec.rope.rotaryDim / 2]),
    valueInfo(graphNames.sin, 'f32', ['positions', spec.rope.rotaryDim / 2]),
  ]
  if (!hasFusedRotation(spec)) input.push(valueInfo(graphNames.first, 'i64', [1]))
  const output: OnnxValueInfo[] = [valueInfo(graphNames.out, 'f32', [1, 'rows', spec.hiddenSize])]
  addLayerConstants(init, spec)
  if (usesRowZeroPoints(options.recipe)) {
    addI8Constants(init)
    input.push(valueInfo(graphNames.rowZeroPoints, 'u8', ['rows']))
  }
  let hidden: string = graphNames.hidden
  for (let layer = span.start; layer < span.end; layer++) {
    const p = layerName(layer)
    const kv = kvNames(layer)
    // Present and past have different names for their length, or an empty past would not match a full present.
    for (const past of [kv.pastK, kv.pastV]) {
      input.push(valueInfo(past, kvType, [1, spec.nKvHeads, `${p}.past`, spec.headDim]))
    }
    for (const present of [kv.presentK, kv.presentV]) {
      output.push(valueInfo(present, kvType, [1, spec.nKvHeads, `${p}.present`, spec.headDim]))
    }
    input.push(valueInfo(graphNames.layerOn(layer), 'bool', []))
    const on = layerBody(spec, layer, hidden, options.weights(layer), init, kvType)
    const off = createNodeList()
    const offOutputs = [
      off.add('Identity', [hidden], `${p}.out_off`),
      off.add('Identity', [kv.pastK], `${p}.present_k_off`),
      off.add('Identity', [kv.pastV], `${p}.present_v_off`),
    ]
    const branch = (name: string, body: { nodes: typeof off.nodes; outputs: readonly string[] }) => ({
      graph: {
        name,
        node: body.nodes,
        output: body.outputs.map((result, i) => valueInfo(result, i === 0 ? 'f32' : kvType)),
      },
    })
    const result = layer === span.end - 1 ? graphNames.out : `${p}.out`
    hidden = nodes.add('If', [graphNames.layerOn(layer)], [result, kv.presentK, kv.presentV], {
      then_branch: branch(`${p}.then`, on),
      else_branch: branch(`${p}.else`, { nodes: off.nodes, outputs: offOutputs }),
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
