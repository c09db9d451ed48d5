import { LlmNodeError } from '../base/errors.ts'
import type { LayerSpec, LinearSpec, ModelSpec, TensorSource } from '../model/spec.ts'
import { createPackedMatrix, type PackedMatrix, packRows } from './quantize.ts'
import { blockSize, type RecipeId } from './recipe.ts'
import { encodeSafetensorsHeader, type TensorDeclaration, tensorBytes } from './safetensors.ts'
import { type SourceDtype, sourceBytes, widen } from './widen.ts'

/** Data begins at a multiple of this, so that a file's pages can be mapped. */
export const packedAlignment = 4_096

/** A whole source tensor: its little-endian bytes, row-major. */
export interface SourceTensor {
  readonly dtype: SourceDtype
  readonly bytes: Uint8Array
}

/** A file as its bytes: header, then the parts in order. */
export interface PackedFile {
  readonly header: Uint8Array<ArrayBuffer>
  readonly parts: readonly Uint8Array<ArrayBuffer>[]
}

/** f32 values of a matrix that are widened at once: 1 MiB stays in the second cache. */
const scratchValues = 262_144

interface Part extends TensorDeclaration {
  readonly data: Uint8Array<ArrayBuffer>
}

/**
 * One layer as a file (docs/recipes.md). `source` gives the tensors that the spec names, of the spec's shapes.
 * Throws MODEL_CORRUPT (wrong length, non-finite value) and MODEL_UNSUPPORTED (no block size fits).
 */
export function packLayer(layer: LayerSpec, recipe: RecipeId, source: (name: string) => SourceTensor): PackedFile {
  const parts: Part[] = layer.vectors.map((vector) => ({
    name: vector.role,
    dtype: 'F32',
    shape: [vector.length],
    data: packVector([vector.source], vector.length, source),
  }))
  for (const linear of layer.linears) {
    if (linear.bias.length === 0) continue
    const data = packVector(linear.bias, linear.n, source)
    parts.push({ name: `${linear.role}.bias`, dtype: 'F32', shape: [linear.n], data })
  }
  for (const linear of layer.linears) parts.push(...matrixParts(linear, packLinear(linear, recipe, source)))
  const ordered = f32First(parts)
  return {
    header: encodeSafetensorsHeader(ordered, { alignment: packedAlignment, metadata: { recipe } }),
    parts: ordered.map(({ data }) => data),
  }
}

/** What `packLayer` will put into the file, in its order, without the data. Throws MODEL_UNSUPPORTED. */
export function declareLayer(layer: LayerSpec, recipe: RecipeId): TensorDeclaration[] {
  const vectors = layer.vectors.map(({ role, length }): TensorDeclaration => {
    return { name: role, dtype: 'F32', shape: [length] }
  })
  const biases = layer.linears
    .filter(({ bias }) => bias.length > 0)
    .map(({ role, n }): TensorDeclaration => ({ name: `${role}.bias`, dtype: 'F32', shape: [n] }))
  const matrices = layer.linears.flatMap(({ role, k, n }) => declareMatrix(role, recipe, k, n))
  return f32First([...vectors, ...biases, ...matrices])
}

/** The ends file: final norm, head in the recipe, and the embedding as the source has it. Throws MODEL_UNSUPPORTED. */
export function declareEnds(spec: ModelSpec, recipe: RecipeId, embeddingDtype: SourceDtype): TensorDeclaration[] {
  const [vocab = 0, hidden = 0] = spec.head.shape
  return f32First([
    { name: 'final_norm', dtype: 'F32', shape: [spec.finalNorm.length] },
    ...declareMatrix('head', recipe, hidden, vocab).filter(({ dtype }) => dtype === 'F32'),
    { name: 'embedding', dtype: embeddingDtype, shape: spec.embedding.shape },
    ...declareMatrix('head', recipe, hidden, vocab).filter(({ dtype }) => dtype !== 'F32'),
  ])
}

/** Bytes of a file with these tensors, header and padding included. */
export function packedFileBytes(tensors: readonly TensorDeclaration[], recipe: RecipeId): number {
  const header = encodeSafetensorsHeader(tensors, { alignment: packedAlignment, metadata: { recipe } })
  return tensors.reduce((sum, { dtype, shape }) => sum + tensorBytes(dtype, shape), header.length)
}

/** `count` runs of `runBytes` each, taken from `bytes` in order; run i goes to `offset + i · stride` in the tensor. */
export interface StridedWrite {
  readonly tensor: string
  readonly bytes: Uint8Array<ArrayBuffer>
  readonly offset: number
  readonly runBytes: number
  readonly stride: number
}

/**
 * Packs rows [row, row + rows) of the head, `source` being those rows alone. The head is too large to be packed in one
 * go, and in f32 and i8 its rows become columns: hence the strides. Throws MODEL_CORRUPT and MODEL_UNSUPPORTED.
 */
export function packHeadRows(spec: ModelSpec, recipe: RecipeId, row: number, source: SourceTensor): StridedWrite[] {
  const [vocab = 0, hidden = 0] = spec.head.shape
  const rows = source.bytes.length / (hidden * sourceBytes(source.dtype))
  const matrix = createPackedMatrix(recipe, hidden, rows, spec.head.name)
  packSourceRows(matrix, 0, source, spec.head.name)
  const writes: StridedWrite[] = []
  const add = (tensor: string, array: Float32Array<ArrayBuffer> | Int8Array<ArrayBuffer> | Uint8Array<ArrayBuffer>) => {
    const bytes = bytesOf(array)
    const transposed = tensor === 'head.weight' || array instanceof Int8Array
    const rowBytes = bytes.length / rows / (transposed ? hidden : 1)
    const runBytes = rowBytes * rows
    writes.push({ tensor, bytes, offset: row * rowBytes, runBytes, stride: transposed ? rowBytes * vocab : runBytes })
  }
  if (matrix.scales) add('head.scales', matrix.scales)
  add(matrix.scales ? 'head.q' : 'head.weight', matrix.weight)
  return writes
}

/** One vector (a norm, or a bias stacked from several), widened: [length] f32 as bytes. */
export function packVector(
  sources: readonly TensorSource[],
  length: number,
  source: (name: string) => SourceTensor,
): Uint8Array<ArrayBuffer> {
  const out = new Float32Array(length)
  let at = 0
  for (const one of sources) {
    const { dtype, bytes } = rowsOf(one, source(one.name))
    const count = bytes.length / sourceBytes(dtype)
    widen(dtype, bytes, out.subarray(at, at + count), one.name)
    at += count
  }
  return bytesOf(out)
}

function packLinear(linear: LinearSpec, recipe: RecipeId, source: (name: string) => SourceTensor): PackedMatrix {
  const first = linear.weight[0]?.name ?? linear.role
  const matrix = createPackedMatrix(recipe, linear.k, linear.n, first)
  let column = 0
  for (const one of linear.weight) column += packSourceRows(matrix, column, rowsOf(one, source(one.name)), one.name)
  return matrix
}

/** Returns the number of rows packed. */
function packSourceRows(matrix: PackedMatrix, column: number, source: SourceTensor, name: string): number {
  const { k } = matrix
  const rowBytes = k * sourceBytes(source.dtype)
  const rows = source.bytes.length / rowBytes
  const atOnce = Math.max(1, Math.floor(scratchValues / k))
  const scratch = new Float32Array(Math.min(rows, atOnce) * k)
  for (let row = 0; row < rows; row += atOnce) {
    const count = Math.min(atOnce, rows - row)
    widen(source.dtype, source.bytes.subarray(row * rowBytes, (row + count) * rowBytes), scratch, name)
    packRows(matrix, column + row, scratch, count)
  }
  return rows
}

/** The slice of rows that `part` names, after checking that the bytes are as many as its shape says. */
function rowsOf(part: TensorSource, { dtype, bytes }: SourceTensor): SourceTensor {
  const expected = tensorBytes(dtype, part.shape)
  if (bytes.length !== expected) {
    throw new LlmNodeError('MODEL_CORRUPT', `${part.name} has ${bytes.length} bytes, not ${expected}.`, {
      meta: { tensor: part.name },
    })
  }
  if (!part.rows) return { dtype, bytes }
  const rowBytes = expected / (part.shape[0] ?? 1)
  return { dtype, bytes: bytes.subarray(part.rows.start * rowBytes, part.rows.end * rowBytes) }
}

function declareMatrix(role: string, recipe: RecipeId, k: number, n: number): TensorDeclaration[] {
  if (recipe === 'f32/1') return [{ name: `${role}.weight`, dtype: 'F32', shape: [k, n] }]
  if (recipe === 'i8/1') {
    return [
      { name: `${role}.scales`, dtype: 'F32', shape: [n] },
      { name: `${role}.q`, dtype: 'I8', shape: [k, n] },
    ]
  }
  const block = blockSize(k, role)
  const blocks = k / block
  return [
    { name: `${role}.scales`, dtype: 'F32', shape: [n * blocks] },
    { name: `${role}.q`, dtype: 'U8', shape: [n, blocks, recipe === 'q8/1' ? block : block / 2] },
  ]
}

function matrixParts({ role }: LinearSpec, { recipe, k, n, scales, weight }: PackedMatrix): Part[] {
  const data = [...(scales ? [bytesOf(scales)] : []), bytesOf(weight)]
  return declareMatrix(role, recipe, k, n).map((declaration, i) => ({
    ...declaration,
    data: data[i] ?? new Uint8Array(),
  }))
}

/** F32 before bytes keeps every f32 at a multiple of 4 without gaps, which the format does not allow. */
function f32First<T extends TensorDeclaration>(tensors: readonly T[]): T[] {
  const isF32 = ({ dtype }: T) => dtype === 'F32'
  return [...tensors.filter(isF32), ...tensors.filter((tensor) => !isF32(tensor))]
}

function bytesOf(
  array: Float32Array<ArrayBuffer> | Int8Array<ArrayBuffer> | Uint8Array<ArrayBuffer>,
): Uint8Array<ArrayBuffer> {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength)
}
