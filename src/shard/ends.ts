import { type FileHandle, open, realpath } from 'node:fs/promises'
import { dirname } from 'node:path'
import { assertInput, LlmNodeError } from '../base/errors.ts'
import { shardLimits } from '../base/limits.ts'
import type { ModelSpec } from '../model/spec.ts'
import { createBriefRuns } from './brief-runs.ts'
import { loadFinalNorm, type RowNorm } from './final-norm.ts'
import { buildHeadGraph, graphNames, usesRowZeroPoints } from './graph.ts'
import { type OrtRuntime, openOrt, type Provider } from './ort.ts'
import { type PackedEnds, readPackedEnds } from './packed-file.ts'
import type { RecipeId } from './recipe.ts'
import { createStaging, runRows } from './staging.ts'
import { sourceBytes, widen } from './widen.ts'

/** The ends of a model: token embedding before the first layer, final norm and head after the last. */
export interface ModelEnds {
  /** Rows of the embedding, widened to f32 exactly: [ids.length, hiddenSize]. Throws BAD_INPUT on an id ≥ vocabSize. */
  embed(ids: readonly number[]): Promise<Float32Array>
  /** Final norm and head over hidden [n, hiddenSize] → logits [n, vocabSize]. One way for every caller (engine.md §6.1). */
  logits(hidden: Float32Array): Promise<Float32Array>
  /** The final norm alone, over hidden [n, hiddenSize] → [n, hiddenSize], in f64. For embeddings, not for logits. */
  readonly finalNorm: RowNorm
  /** Waits for the run in progress, then frees everything. Idempotent. */
  close(): Promise<void>
}

export interface ModelEndsOptions {
  readonly spec: ModelSpec
  readonly recipe: RecipeId
  /** Path of the packed ends. */
  readonly endsFile: string
  readonly threads: number
  /** Another libonnxruntime than the bundled one. */
  readonly library?: string | undefined
  /** What computes the head; default the processor. */
  readonly provider?: Provider | undefined
}

/** Throws MODEL_NOT_FOUND, MODEL_CORRUPT, ENGINE_UNAVAILABLE or ENGINE_FAILED. */
export async function createModelEnds(options: ModelEndsOptions): Promise<ModelEnds> {
  const { spec, recipe } = options
  const ort = openOrt(options.library)
  const { packed, file, graph, finalNorm } = await openEnds(options, ort)
  const binding = graph.createBinding()
  const staging = createStaging(
    { hiddenSize: spec.hiddenSize, width: spec.vocabSize, keep: shardLimits.stagedHeadCounts },
    ort,
  )
  const runs = createBriefRuns()
  let tail: Promise<unknown> = Promise.resolve()
  let closing: Promise<void> | null = null

  /** One piece of work after the other, and none after close. */
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    if (closing !== null)
      return Promise.reject(new LlmNodeError('ABORTED', 'The ends of the model are being put away.'))
    const result = tail.then(work)
    tail = result.catch(() => {})
    return result
  }

  const run = async (hidden: Float32Array, nTokens: number): Promise<Float32Array> => {
    const buffers = staging.get(runRows(recipe, nTokens))
    binding.input(graphNames.hidden, buffers.input)
    binding.output(graphNames.logits, buffers.output)
    if (usesRowZeroPoints(recipe)) binding.input(graphNames.rowZeroPoints, buffers.zeroPoints)
    buffers.fill(hidden)
    await runs.run(binding, runRows(recipe, nTokens))
    return buffers.take(nTokens)
  }

  return {
    async embed(ids) {
      const wrong = ids.find((id) => !Number.isInteger(id) || id < 0 || id >= spec.vocabSize)
      assertInput(wrong === undefined, `${wrong} is not the id of a token.`)
      return inTurn(() => readRows(file, packed, spec, ids))
    },
    async logits(hidden) {
      const { hiddenSize, vocabSize } = spec
      const nTokens = hidden.length / hiddenSize
      assertInput(Number.isInteger(nTokens) && nTokens > 0, `${hidden.length} values are not rows of ${hiddenSize}.`)
      assertInput(hidden.every(Number.isFinite), 'The rows hold a value that is not finite.')
      const logits = new Float32Array(nTokens * vocabSize)
      for (let row = 0; row < nTokens; row += shardLimits.headRows) {
        const count = Math.min(shardLimits.headRows, nTokens - row)
        const rows = hidden.subarray(row * hiddenSize, (row + count) * hiddenSize)
        logits.set(await inTurn(() => run(rows, count)), row * vocabSize)
      }
      return logits
    },
    finalNorm,
    close() {
      closing ??= (async () => {
        await tail
        await file.close()
        binding.release()
        staging.release()
        graph.release()
      })()
      return closing
    },
  }
}

async function openEnds({ spec, recipe, endsFile, threads, provider = 'cpu' }: ModelEndsOptions, ort: OrtRuntime) {
  const packed = await readPackedEnds(endsFile, spec, recipe)
  const model = buildHeadGraph({ spec, recipe, finalNorm: packed.finalNorm, head: packed.head })
  const file = await open(endsFile)
  try {
    const finalNorm = await loadFinalNorm(file, packed.finalNorm, spec.rmsNormEps)
    const weightsFolder = await realpath(dirname(endsFile))
    const graph = await ort.createSession(model, { threads, weightsFolder, provider })
    return { packed, file, graph, finalNorm }
  } catch (error) {
    await file.close()
    throw error
  }
}

async function readRows(
  file: FileHandle,
  { embedding }: PackedEnds,
  { hiddenSize, embedding: { name } }: ModelSpec,
  ids: readonly number[],
): Promise<Float32Array> {
  const rows = new Float32Array(ids.length * hiddenSize)
  const bytes = new Uint8Array(hiddenSize * sourceBytes(embedding.dtype))
  for (const [i, id] of ids.entries()) {
    const { bytesRead } = await file.read(bytes, 0, bytes.length, embedding.offset + id * bytes.length)
    if (bytesRead !== bytes.length) throw new LlmNodeError('MODEL_CORRUPT', 'The file of the ends is cut off.')
    widen(embedding.dtype, bytes, rows.subarray(i * hiddenSize, (i + 1) * hiddenSize), name)
  }
  return rows
}
