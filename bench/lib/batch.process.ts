/** An engine in a process of its own that several sessions use at a time: ours, or llama.cpp with as many sequences. */
import { availableParallelism } from 'node:os'
import { createModelEnds } from '../../src/shard/ends.ts'
import type { RecipeId } from '../../src/shard/recipe.ts'
import { createSpanRunner } from '../../src/shard/runner.ts'
import type { BenchModel } from './bench-weights.ts'
import { openLlama } from './llama-cpp.ts'

export type BatchChoice =
  | { readonly kind: 'ours'; readonly model: BenchModel; readonly recipe: RecipeId }
  | { readonly kind: 'theirs'; readonly path: string; readonly vocabSize: number }

export type BatchRequest =
  | { readonly do: 'open'; readonly choice: BatchChoice; readonly sessions: number; readonly maxContext: number }
  /** Fills the sessions up to `context`, then lets the first `sessions` of them take `steps` steps each. */
  | { readonly do: 'decode'; readonly sessions: number; readonly context: number; readonly steps: number }
  | { readonly do: 'close' }

interface Batch {
  /** Makes every session hold `context` tokens. */
  fill(context: number): Promise<void>
  step(session: number, context: number, steps: number): Promise<void>
  close(): Promise<void>
}

const threads = availableParallelism()

async function openOurs(
  { spec, layerFiles, endsFile }: BenchModel,
  recipe: RecipeId,
  { sessions: count, maxContext }: { sessions: number; maxContext: number },
): Promise<Batch> {
  const span = { start: 0, end: spec.nLayers }
  const runner = await createSpanRunner({ spec, recipe, span, layerFiles, threads, kvBudgetBytes: 2 ** 32 })
  const ends = await createModelEnds({ spec, recipe, endsFile, threads })
  const sessions = Array.from({ length: count }, () => runner.openSession({ span, maxContext, local: true }))
  const rows = (length: number, seed: number) =>
    Float32Array.from({ length: length * spec.hiddenSize }, (_, i) => Math.sin(i * (0.7 + seed / 100)) * 0.3)
  return {
    async fill(context) {
      await Promise.all(sessions.map((session, i) => session.forward(0, rows(context, i))))
    },
    async step(index, context, steps) {
      const session = sessions[index]
      for (let i = 0; i < steps; i++) {
        const hidden = await session?.forward(context + i, rows(1, index + i))
        if (hidden === undefined) throw new Error(`there is no session ${index}`)
        mostProbable(await ends.logits(hidden))
      }
    },
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

async function openTheirs(
  path: string,
  vocabSize: number,
  { sessions, maxContext }: { sessions: number; maxContext: number },
): Promise<Batch> {
  const llama = await openLlama({ path, threads, contextSize: maxContext, nSequences: sessions })
  const ids = (count: number, seed: number) =>
    Array.from({ length: count }, (_, i) => ((seed * 131 + i) * 7_919 + 11) % (vocabSize - 1))
  return {
    async fill(context) {
      await Promise.all(
        llama.sequences.map(async (sequence, i) => {
          await sequence.clearHistory()
          await sequence.evaluateWithoutGeneratingNewTokens(ids(context, i))
        }),
      )
    },
    async step(index, _context, steps) {
      const sequence = llama.sequences[index]
      if (sequence === undefined) throw new Error(`there is no sequence ${index}`)
      let left = steps
      for await (const _ of sequence.evaluate(ids(1, index), { temperature: 0, yieldEogToken: true })) {
        if (--left === 0) break
      }
    },
    close: () => llama.close(),
  }
}

let batch: Batch | undefined

async function answer(request: BatchRequest): Promise<unknown> {
  if (request.do === 'open') {
    const { choice } = request
    if (choice.kind === 'ours') batch = await openOurs(choice.model, choice.recipe, request)
    else batch = await openTheirs(choice.path, choice.vocabSize, request)
    return null
  }
  if (batch === undefined) throw new Error('no engine is open')
  const { fill, step, close } = batch
  if (request.do === 'decode') {
    const { sessions, context, steps } = request
    await fill(context)
    const startMs = performance.now()
    await Promise.all(Array.from({ length: sessions }, (_, index) => step(index, context, steps)))
    return (sessions * steps * 1_000) / (performance.now() - startMs)
  }
  await close()
  process.disconnect()
  return null
}

process.on('message', async (request: BatchRequest) => {
  const result = await answer(request)
  if (process.connected) process.send?.({ result })
})
