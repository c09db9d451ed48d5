/** Our engine and llama.cpp behind one interface, so that both are measured by the same code. */
import { createModelEnds } from '../../src/shard/ends.ts'
import type { RecipeId } from '../../src/shard/recipe.ts'
import { createSpanRunner } from '../../src/shard/runner.ts'
import type { BenchModel } from './bench-weights.ts'
import { type LlamaSequence, openLlama } from './llama-cpp.ts'

/** One model in memory, head included, with one session on it. */
export interface MeasuredEngine {
  /** From nothing to the first token after `nTokens`: ms. */
  prefill(nTokens: number): Promise<number>
  /** ms of each of `steps` decode steps, the first of them at position `context`. */
  decode(context: number, steps: number): Promise<number[]>
  /** Keys and values as they stand. */
  memory(): { readonly rssMB: number; readonly kvMB: number }
  close(): Promise<void>
}

/** What a session may hold: the longest context measured and its steps. */
const maxContext = 2_047

const rssMB = () => process.memoryUsage.rss() / 1e6

export async function openOurs(model: BenchModel, recipe: RecipeId, threads: number): Promise<MeasuredEngine> {
  const { spec, layerFiles, endsFile } = model
  const span = { start: 0, end: spec.nLayers }
  const runner = await createSpanRunner({ spec, recipe, span, layerFiles, threads, kvBudgetBytes: 2 ** 31 })
  const ends = await createModelEnds({ spec, recipe, endsFile, threads })
  let session = runner.openSession({ span, maxContext })
  /** A new conversation, as llama.cpp's cleared history: the memory of one that was longer would be read with each step. */
  const begin = () => {
    session.close()
    session = runner.openSession({ span, maxContext })
  }
  const rows = (count: number) =>
    Float32Array.from({ length: count * spec.hiddenSize }, (_, i) => Math.sin(i * 0.7) * 0.3)
  /** A token as a generation makes it: the layers, the head, the most probable id. */
  const token = async (pos: number, nTokens: number) => {
    const tokens = rows(nTokens)
    const startMs = performance.now()
    const hidden = await session.forward(pos, tokens)
    mostProbable(await ends.logits(hidden.slice(hidden.length - spec.hiddenSize)))
    return performance.now() - startMs
  }
  return {
    prefill(nTokens) {
      begin()
      return token(0, nTokens)
    },
    async decode(context, steps) {
      if (session.length > context) begin()
      if (session.length < context) await session.forward(session.length, rows(context - session.length))
      const times: number[] = []
      for (let i = 0; i < steps; i++) times.push(await token(context + i, 1))
      return times
    },
    memory: () => ({ rssMB: rssMB(), kvMB: runner.memory().kvBytes / 1e6 }),
    async close() {
      await Promise.all([runner.close(), ends.close()])
    },
  }
}

function mostProbable(logits: Float32Array): number {
  let best = 0
  for (let id = 1; id < logits.length; id++) if ((logits[id] ?? 0) > (logits[best] ?? 0)) best = id
  return best
}

export async function openTheirs(path: string, vocabSize: number, threads: number): Promise<MeasuredEngine> {
  const llama = await openLlama({ path, threads, contextSize: maxContext + 1, nSequences: 1 })
  const [sequence] = llama.sequences
  if (sequence === undefined) throw new Error('llama.cpp gave no sequence')
  const ids = (count: number, from: number) =>
    Array.from({ length: count }, (_, i) => ((from + i) * 7_919 + 11) % (vocabSize - 1))
  return {
    async prefill(nTokens) {
      await sequence.clearHistory()
      const [ms = Number.NaN] = await timedTokens(sequence, ids(nTokens, 0), 1)
      return ms
    },
    async decode(context, steps) {
      if (sequence.nextTokenIndex > context) await sequence.clearHistory()
      const missing = context - sequence.nextTokenIndex
      if (missing > 0) await sequence.evaluateWithoutGeneratingNewTokens(ids(missing, sequence.nextTokenIndex))
      return timedTokens(sequence, ids(1, context), steps)
    },
    // llama.cpp sets all of a sequence's keys and values aside when it starts; they are part of its RSS.
    memory: () => ({ rssMB: rssMB(), kvMB: Number.NaN }),
    close: () => llama.close(),
  }
}

async function timedTokens(sequence: LlamaSequence, tokens: readonly number[], count: number): Promise<number[]> {
  const times: number[] = []
  let startMs = performance.now()
  for await (const _id of sequence.evaluate(tokens, { temperature: 0, yieldEogToken: true })) {
    const nowMs = performance.now()
    times.push(nowMs - startMs)
    startMs = nowMs
    if (times.length === count) break
  }
  return times
}
