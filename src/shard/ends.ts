import { type FileHandle, open, realpath } from 'node:fs/promises'
import { dirname } from 'node:path'
import { assertInput, LlmNodeError } from '../base/errors.ts'
import { shardLimits } from '../base/limits.ts'
import type { ModelSpec } from '../model/spec.ts'
import { createBriefRuns } from './brief-runs.ts'
import { loadFinalNorm, type RowNorm } from './final-norm.ts'
import { buildHeadGraph, graphNames, usesRowZeroPoints } from './graph.ts'
import { createHeadQueue } from './head-queue.ts'
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
  const head = createHeadQueue({
    ...spec,
    maxRows: shardLimits.headRows,
    async run(parts, nTokens) {
      const rows = runRows(recipe, nTokens)
      const buffers = staging.get(rows)
      binding.input(graphNames.hidden, buffers.input)
      binding.output(graphNames.logits, buffers.output)
      if (usesRowZeroPoints(recipe)) binding.input(graphNames.rowZeroPoints, buffers.zeroPoints)
      buffers.fill(...parts)
      await runs.run(binding, rows)
      return buffers
    },
  })
  const reading = new Set<Promise<unknown>>()
  let closing: Promise<void> | null = null

  const assertOpen = () => {
    if (closing !== null) throw new LlmNodeError('ABORTED', 'The ends of the model are being put away.')
  }

  return {
    async embed(ids) {
      const wrong = ids.find((id) => !Number.isInteger(id) || id < 0 || id >= spec.vocabSize)
      assertInput(wrong === undefined, `${wrong} is not the id of a token.`)
      assertOpen()
      const rows = readRows(file, packed, spec, ids)
      reading.add(rows)
      return rows.finally(() => reading.delete(rows))
    },
    async logits(hidden) {
      const nTokens = hidden.length / spec.hiddenSize
      assertInput(
        Number.isInteger(nTokens) && nTokens > 0,
        `${hidden.length} values are not rows of ${spec.hiddenSize}.`,
      )
      assertInput(hidden.every(Number.isFinite), 'The rows hold a value that is not finite.')
      assertOpen()
      return head.logits(hidden)
    },
    finalNorm,
    close() {
      closing ??= (async () => {
        await Promise.allSettled([head.idle(), ...reading])
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
