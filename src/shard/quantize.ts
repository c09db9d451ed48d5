import { blockSize, type RecipeId } from './recipe.ts'

/**
 * A matrix W[k, n] in a recipe's layout (docs/recipes.md), as it is being filled. `n` and `column` let a block of
 * columns be packed alone: arrays hold `n` columns, of which the next call fills those from `column` on.
 */
export interface PackedMatrix {
  readonly recipe: RecipeId
  readonly k: number
  readonly n: number
  /** q8, q4: one per block of a column [n · blocks]; i8: one per column [n]; f32: absent. */
  readonly scales: Float32Array<ArrayBuffer> | null
  /** f32: F32 [k, n]; i8: I8 [k, n]; q8, q4: U8 [n, blocks, bytes of a block]. */
  readonly weight: Float32Array<ArrayBuffer> | Int8Array<ArrayBuffer> | Uint8Array<ArrayBuffer>
}

/** `tensor` is what an error names. Throws MODEL_UNSUPPORTED when no block size fits k. */
export function createPackedMatrix(recipe: RecipeId, k: number, n: number, tensor: string): PackedMatrix {
  if (recipe === 'f32/1') return { recipe, k, n, scales: null, weight: new Float32Array(k * n) }
  if (recipe === 'i8/1') return { recipe, k, n, scales: new Float32Array(n), weight: new Int8Array(k * n) }
  const scales = new Float32Array(n * (k / blockSize(k, tensor)))
  return { recipe, k, n, scales, weight: new Uint8Array(recipe === 'q8/1' ? k * n : (k * n) / 2) }
}

/**
 * Packs `rows` rows of a source tensor, `source` [rows, k] f32 row-major and finite, into the columns from `column` on.
 * Pure arithmetic in binary64 on f32 values, rounded to f32 where docs/recipes.md says so: every node gets these bytes.
 */
export function packRows(matrix: PackedMatrix, column: number, source: Float32Array, rows: number): void {
  const { k, n, scales, weight } = matrix
  if (weight instanceof Float32Array) transposeRows(source, rows, k, weight, n, column)
  else if (scales && weight instanceof Int8Array) packColumns(source, rows, k, weight, scales, n, column)
  else if (scales && weight instanceof Uint8Array) packBlocks(matrix, column, source, rows, weight, scales)
}

function packBlocks(
  { recipe, k }: PackedMatrix,
  column: number,
  source: Float32Array,
  rows: number,
  out: Uint8Array,
  scales: Float32Array,
): void {
  const block = blockSize(k, recipe)
  const blocks = k / block
  const pack = recipe === 'q8/1' ? packBlock8 : packBlock4
  const blockBytes = recipe === 'q8/1' ? block : block / 2
  for (let i = 0; i < rows * blocks; i++) {
    const target = column * blocks + i
    scales[target] = pack(source, i * block, block, out, target * blockBytes)
  }
}

/** Adding and subtracting 1.5 · 2^52 rounds a binary64 below 2^51 to a whole number, ties to even (IEEE 754). */
const roundingBias = 6_755_399_441_055_744

/** Values of k that are transposed at once: a tile of 64 × rows bytes stays in the first cache. */
const tileK = 64
/** Rows of a tile. Source rows lie a power of two apart, so more of them would evict each other from the cache. */
const tileRows = 64

function transposeRows(
  source: Float32Array,
  rows: number,
  k: number,
  out: Float32Array,
  n: number,
  column: number,
): void {
  for (let row0 = 0; row0 < rows; row0 += tileRows) {
    const rowEnd = Math.min(rows, row0 + tileRows)
    for (let i0 = 0; i0 < k; i0 += tileK) {
      const end = Math.min(k, i0 + tileK)
      for (let i = i0; i < end; i++) {
        const base = i * n + column
        for (let row = row0; row < rowEnd; row++) out[base + row] = source[row * k + i] ?? 0
      }
    }
  }
}

function packColumns(
  source: Float32Array,
  rows: number,
  k: number,
  out: Int8Array,
  scales: Float32Array,
  n: number,
  column: number,
): void {
  const tile = new Int8Array(tileK * tileRows)
  for (let row0 = 0; row0 < rows; row0 += tileRows) {
    const count = Math.min(rows - row0, tileRows)
    for (let r = 0; r < count; r++) scales[column + row0 + r] = columnScale(source, (row0 + r) * k, k)
    for (let i0 = 0; i0 < k; i0 += tileK) {
      const depth = Math.min(k - i0, tileK)
      for (let r = 0; r < count; r++) {
        const scale = scales[column + row0 + r] ?? 1
        const at = (row0 + r) * k + i0
        for (let i = 0; i < depth; i++) {
          const rounded = (source[at + i] ?? 0) / scale + roundingBias - roundingBias
          tile[i * tileRows + r] = Math.min(127, Math.max(-127, rounded))
        }
      }
      for (let i = 0; i < depth; i++) {
        const base = (i0 + i) * n + column + row0
        for (let r = 0; r < count; r++) out[base + r] = tile[i * tileRows + r] ?? 0
      }
    }
  }
}

function largest(source: Float32Array, at: number, count: number): number {
  let max = 0
  for (let i = at; i < at + count; i++) {
    const size = Math.abs(source[i] ?? 0)
    if (size > max) max = size
  }
  return max
}

/** 1 for all zeros, and where the quotient is too small for an f32. */
function columnScale(source: Float32Array, at: number, count: number): number {
  return Math.fround(largest(source, at, count) / 127) || 1
}

/** Writes `count` bytes and returns the block's scale. */
function packBlock8(source: Float32Array, at: number, count: number, out: Uint8Array, to: number): number {
  const scale = columnScale(source, at, count)
  for (let i = 0; i < count; i++) {
    const rounded = (source[at + i] ?? 0) / scale + roundingBias - roundingBias
    out[to + i] = 128 + Math.min(127, Math.max(-127, rounded))
  }
  return scale
}

/** Writes `count / 2` bytes, the earlier value in the lower half, and returns the block's scale. */
function packBlock4(source: Float32Array, at: number, count: number, out: Uint8Array, to: number): number {
  let max = 0
  let extreme = 0
  for (let i = at; i < at + count; i++) {
    const value = source[i] ?? 0
    const size = Math.abs(value)
    if (size > max) {
      max = size
      extreme = value
    }
  }
  // The extreme value maps to −8, so all 16 levels are in use whatever its sign.
  const scale = Math.fround(extreme / -8) || 1
  for (let i = 0; i < count; i += 2) {
    const low = (source[at + i] ?? 0) / scale + roundingBias - roundingBias
    const high = (source[at + i + 1] ?? 0) / scale + roundingBias - roundingBias
    out[to + (i >> 1)] = (Math.min(7, Math.max(-8, low)) + 8) | ((Math.min(7, Math.max(-8, high)) + 8) << 4)
  }
  return scale
}
