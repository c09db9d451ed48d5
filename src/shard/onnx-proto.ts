import protobuf from 'protobufjs/light.js'
import { LlmNodeError } from '../base/errors.ts'

/** ONNX TensorProto.DataType, the ones used here (onnx.proto, ONNX IR version 8). */
export const onnxTypes = { f32: 1, u8: 2, i8: 3, i32: 6, i64: 7, bool: 9, f16: 10 } as const
export type OnnxType = keyof typeof onnxTypes

/** Bytes of one element. */
export const onnxTypeBytes: Readonly<Record<OnnxType, number>> = {
  f32: 4,
  u8: 1,
  i8: 1,
  i32: 4,
  i64: 8,
  bool: 1,
  f16: 2,
}

export interface OnnxAttribute {
  readonly name: string
  readonly type: number
  readonly f?: number
  readonly i?: number
  readonly ints?: readonly number[]
  readonly g?: OnnxGraph
}

export interface OnnxNode {
  readonly opType: string
  readonly domain: string
  readonly name: string
  readonly input: readonly string[]
  readonly output: readonly string[]
  readonly attribute: readonly OnnxAttribute[]
}

export interface OnnxTensor {
  readonly name: string
  readonly dataType: number
  readonly dims: readonly number[]
  readonly rawData?: Uint8Array
  /** 1: the data lies in a file, named by `externalData`. */
  readonly dataLocation?: number
  readonly externalData?: readonly { readonly key: string; readonly value: string }[]
}

export interface OnnxValueInfo {
  readonly name: string
  readonly type: {
    readonly tensorType: {
      readonly elemType: number
      readonly shape?: { readonly dim: readonly { readonly dimValue?: number; readonly dimParam?: string }[] }
    }
  }
}

export interface OnnxGraph {
  readonly name: string
  readonly node: readonly OnnxNode[]
  readonly initializer?: readonly OnnxTensor[]
  readonly input?: readonly OnnxValueInfo[]
  readonly output: readonly OnnxValueInfo[]
}

const field = (type: string, id: number) => ({ type, id })
const repeated = (type: string, id: number) => ({ rule: 'repeated', type, id })

/** The part of onnx.proto that a graph of ours uses; field numbers are ONNX's and never change there. */
const schema = protobuf.Root.fromJSON({
  nested: {
    Entry: { fields: { key: field('string', 1), value: field('string', 2) } },
    Dimension: {
      oneofs: { kind: { oneof: ['dimValue', 'dimParam'] } },
      fields: { dimValue: field('int64', 1), dimParam: field('string', 2) },
    },
    Shape: { fields: { dim: repeated('Dimension', 1) } },
    TensorType: { fields: { elemType: field('int32', 1), shape: field('Shape', 2) } },
    Type: { fields: { tensorType: field('TensorType', 1) } },
    ValueInfo: { fields: { name: field('string', 1), type: field('Type', 2) } },
    Tensor: {
      fields: {
        dims: repeated('int64', 1),
        dataType: field('int32', 2),
        name: field('string', 8),
        rawData: field('bytes', 9),
        externalData: repeated('Entry', 13),
        dataLocation: field('int32', 14),
      },
    },
    Attribute: {
      fields: {
        name: field('string', 1),
        f: field('float', 2),
        i: field('int64', 3),
        g: field('Graph', 6),
        ints: { ...repeated('int64', 8), options: { packed: false } },
        type: field('int32', 20),
      },
    },
    Node: {
      fields: {
        input: repeated('string', 1),
        output: repeated('string', 2),
        name: field('string', 3),
        opType: field('string', 4),
        attribute: repeated('Attribute', 5),
        domain: field('string', 7),
      },
    },
    Graph: {
      fields: {
        node: repeated('Node', 1),
        name: field('string', 2),
        initializer: repeated('Tensor', 5),
        input: repeated('ValueInfo', 11),
        output: repeated('ValueInfo', 12),
      },
    },
    OperatorSet: { fields: { domain: field('string', 1), version: field('int64', 2) } },
    Model: {
      fields: {
        irVersion: field('int64', 1),
        producerName: field('string', 2),
        graph: field('Graph', 7),
        opsetImport: repeated('OperatorSet', 8),
      },
    },
  },
})

const Model = schema.lookupType('Model')

/** Opset 24 is the first with TensorScatter; com.microsoft 1 has the fused operators. */
const opsets = [
  { domain: '', version: 24 },
  { domain: 'com.microsoft', version: 1 },
]

/** Serialises a graph as an ONNX ModelProto. Throws INTERNAL when the graph does not fit the schema. */
export function encodeModel(graph: OnnxGraph): Uint8Array {
  const model = { irVersion: 8, producerName: 'llm-node', graph, opsetImport: opsets }
  const problem = Model.verify(model)
  if (problem !== null) throw new LlmNodeError('INTERNAL', `The ONNX graph is malformed: ${problem}.`)
  return Model.encode(Model.fromObject(model)).finish()
}
