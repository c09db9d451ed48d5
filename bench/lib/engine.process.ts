/** One engine in a process of its own, which never saw the weights being made: its memory is the engine's alone. */
import type { RecipeId } from '../../src/shard/recipe.ts'
import type { BenchModel } from './bench-weights.ts'
import { type MeasuredEngine, openOurs, openTheirs } from './measured-engine.ts'

export type EngineChoice =
  | { readonly kind: 'ours'; readonly model: BenchModel; readonly recipe: RecipeId; readonly threads: number }
  | { readonly kind: 'theirs'; readonly path: string; readonly vocabSize: number; readonly threads: number }

export type EngineRequest =
  | { readonly do: 'open'; readonly choice: EngineChoice }
  | { readonly do: 'prefill'; readonly nTokens: number }
  | { readonly do: 'decode'; readonly context: number; readonly steps: number }
  | { readonly do: 'memory' | 'close' }

let engine: MeasuredEngine | undefined

async function answer(request: EngineRequest): Promise<unknown> {
  if (request.do === 'open') {
    const { choice } = request
    engine =
      choice.kind === 'ours'
        ? await openOurs(choice.model, choice.recipe, choice.threads)
        : await openTheirs(choice.path, choice.vocabSize, choice.threads)
    return null
  }
  if (engine === undefined) throw new Error('no engine is open')
  if (request.do === 'prefill') return engine.prefill(request.nTokens)
  if (request.do === 'decode') return engine.decode(request.context, request.steps)
  if (request.do === 'memory') return engine.memory()
  await engine.close()
  process.disconnect()
  return null
}

process.on('message', async (request: EngineRequest) => {
  const result = await answer(request)
  if (process.connected) process.send?.({ result })
})
