import type { OrtRuntime, OrtTensor } from './ort.ts'
import type { RecipeId } from './recipe.ts'

/** Input and output of a run of a fixed number of rows. */
export interface RunBuffers {
  /** [1, rows, hiddenSize] f32 */
  readonly input: OrtTensor
  /** [1, rows, width] f32 */
  readonly output: OrtTensor
  /** u8 [rows], all 128 (recipe i8). */
  readonly zeroPoints: OrtTensor
  /** i64 [1, rows]: for whoever has rows of several sessions in a run. */
  readonly positions: OrtTensor
  /** Copies the real rows in, part after part, and the last one again for each dummy row. */
  fill(...parts: readonly Float32Array[]): void
  /** A copy of `nTokens` rows of the output, from row `from` on. */
  take(nTokens: number, from?: number): Float32Array
}

/** Buffers of at most `keep` row counts, reused from run to run; the ones used longest ago go first. */
export interface Staging {
  get(rows: number): RunBuffers
  release(): void
}

/**
 * Rows that a run of `nTokens` real rows computes (engine.md §6): for q4 and q8 an even number, because the odd last row
 * would take another kernel.
 */
export function runRows(recipe: RecipeId, nTokens: number): number {
  return isPaired(recipe) ? nTokens + (nTokens % 2) : nTokens
}

/** The recipe computes rows two by two. */
export function isPaired(recipe: RecipeId): boolean {
  return recipe === 'q4/1' || recipe === 'q8/1'
}

export function createStaging(
  shape: { hiddenSize: number; width: number; keep: number },
  ort: Pick<OrtRuntime, 'createTensor'>,
): Staging {
  const { hiddenSize, width, keep } = shape
  /** In the order of use, the latest last. */
  const buffers = new Map<number, RunBuffers>()

  const create = (rows: number): RunBuffers => {
    const input = ort.createTensor('f32', [1, rows, hiddenSize])
    const output = ort.createTensor('f32', [1, rows, width])
    const zeroPoints = ort.createTensor('u8', [rows])
    new Uint8Array(zeroPoints.memory).fill(128)
    const positions = ort.createTensor('i64', [1, rows])
    const inputRows = new Float32Array(input.memory)
    const outputRows = new Float32Array(output.memory)
    return {
      input,
      output,
      zeroPoints,
      positions,
      fill(...parts) {
        let at = 0
        for (const part of parts) {
          inputRows.set(part, at)
          at += part.length
        }
        const last = inputRows.slice(at - hiddenSize, at)
        for (; at < inputRows.length; at += hiddenSize) inputRows.set(last, at)
      },
      take: (nTokens, from = 0) => outputRows.slice(from * width, (from + nTokens) * width),
    }
  }
  const drop = ({ input, output, zeroPoints, positions }: RunBuffers) => {
    for (const tensor of [input, output, zeroPoints, positions]) tensor.release()
  }

  return {
    get(rows) {
      const found = buffers.get(rows) ?? create(rows)
      buffers.delete(rows)
      buffers.set(rows, found)
      for (const [oldest, unused] of buffers) {
        if (buffers.size <= keep) break
        buffers.delete(oldest)
        drop(unused)
      }
      return found
    },
    release() {
      for (const buffer of buffers.values()) drop(buffer)
      buffers.clear()
    },
  }
}
