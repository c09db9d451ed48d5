import {
  type OnnxAttribute,
  type OnnxGraph,
  type OnnxNode,
  type OnnxTensor,
  type OnnxType,
  type OnnxValueInfo,
  onnxTypes,
} from './onnx-proto.ts'

/** Where the bytes of a weight lie: in a file (which ONNX Runtime maps), or in the graph itself. */
export type WeightData =
  | { readonly file: string; readonly offset: number; readonly length: number }
  | { readonly bytes: Uint8Array }

/** One tensor of packed weights, row-major. */
export interface Weight {
  readonly type: OnnxType
  readonly dims: readonly number[]
  readonly data: WeightData
}

type AttributeValue =
  | number
  | { readonly float: number }
  | { readonly ints: readonly number[] }
  | { readonly graph: OnnxGraph }

function attribute(name: string, value: AttributeValue): OnnxAttribute {
  if (typeof value === 'number') return { name, type: 2, i: value }
  if ('float' in value) return { name, type: 1, f: value.float }
  if ('ints' in value) return { name, type: 7, ints: value.ints }
  return { name, type: 5, g: value.graph }
}

export function valueInfo(name: string, type: OnnxType, dims?: readonly (number | string)[]): OnnxValueInfo {
  const elemType = onnxTypes[type]
  if (dims === undefined) return { name, type: { tensorType: { elemType } } }
  const dim = dims.map((size) => (typeof size === 'number' ? { dimValue: size } : { dimParam: size }))
  return { name, type: { tensorType: { elemType, shape: { dim } } } }
}

export const microsoft = 'com.microsoft'

/** Collects the nodes of one graph or branch; every method returns the name of its (first) output. */
export interface NodeList {
  readonly nodes: readonly OnnxNode[]
  add(
    opType: string,
    inputs: readonly string[],
    outputs: string | readonly string[],
    attributes?: Readonly<Record<string, AttributeValue>>,
    domain?: string,
  ): string
}

export function createNodeList(): NodeList {
  const nodes: OnnxNode[] = []
  return {
    nodes,
    add(opType, inputs, outputs, attributes = {}, domain = '') {
      const output = typeof outputs === 'string' ? [outputs] : outputs
      const first = output[0] ?? ''
      nodes.push({
        opType,
        domain,
        name: `${first}:${opType}`,
        input: inputs,
        output,
        attribute: Object.entries(attributes).map(([name, value]) => attribute(name, value)),
      })
      return first
    },
  }
}

/** Collects initializers. Constants are always inline: ONNX Runtime reads shapes while it loads the graph. */
export interface Initializers {
  readonly tensors: readonly OnnxTensor[]
  weight(name: string, weight: Weight): string
  constant(
    name: string,
    type: OnnxType,
    dims: readonly number[],
    values: Float32Array | BigInt64Array | Uint8Array,
  ): string
}

export function createInitializers(): Initializers {
  const tensors: OnnxTensor[] = []
  return {
    tensors,
    weight(name, { type, dims, data }) {
      const head = { name, dataType: onnxTypes[type], dims }
      if ('bytes' in data) tensors.push({ ...head, rawData: data.bytes })
      else {
        const externalData = [
          { key: 'location', value: data.file },
          { key: 'offset', value: String(data.offset) },
          { key: 'length', value: String(data.length) },
        ]
        tensors.push({ ...head, dataLocation: 1, externalData })
      }
      return name
    },
    constant(name, type, dims, values) {
      const rawData = new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
      tensors.push({ name, dataType: onnxTypes[type], dims, rawData })
      return name
    },
  }
}
