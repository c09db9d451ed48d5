import type { FileHandle } from 'node:fs/promises'
import { assertInput, LlmNodeError } from '../base/errors.ts'
import type { Weight } from './graph-nodes.ts'

/** Rows [n, hiddenSize] → the same rows after the final norm. */
export type RowNorm = (hidden: Float32Array) => Float32Array

/**
 * The final norm in f64, away from the engine: for embeddings, whose values nobody compares bit by bit; logits have
 * theirs in the head's graph. `weight` is an f32 tensor of the file (pack.ts). Throws MODEL_CORRUPT.
 */
export async function loadFinalNorm(file: FileHandle, { data }: Weight, eps: number): Promise<RowNorm> {
  if ('bytes' in data) throw new LlmNodeError('INTERNAL', 'The final norm lies in the graph.')
  const weight = new Float32Array(data.length / 4)
  const { bytesRead } = await file.read(weight, 0, data.length, data.offset)
  if (bytesRead !== data.length) throw new LlmNodeError('MODEL_CORRUPT', 'The file of the ends is cut off.')
  return (hidden) => rmsNorm(hidden, weight, eps)
}

function rmsNorm(hidden: Float32Array, weight: Float32Array, eps: number): Float32Array {
  const size = weight.length
  assertInput(hidden.length % size === 0, `${hidden.length} values are not rows of ${size}.`)
  const rows = new Float32Array(hidden.length)
  for (let start = 0; start < hidden.length; start += size) {
    let squares = 0
    for (let i = 0; i < size; i++) squares += (hidden[start + i] as number) ** 2
    const scale = 1 / Math.sqrt(squares / size + eps)
    for (let i = 0; i < size; i++) rows[start + i] = (hidden[start + i] as number) * scale * (weight[i] as number)
  }
  return rows
}
