import { availableParallelism } from 'node:os'
import type { Config, ModelEntry } from '../base/config.ts'
import type { ModelSpec } from '../model/spec.ts'
import { rules } from '../shard/exactness-rules.ts'
import type { Provider } from '../shard/ort.ts'
import { type EngineExam, examineEngine } from '../shard/probe.ts'
import { chooseProvider } from '../shard/provider.ts'
import { parseRecipe, type RecipeId } from '../shard/recipe.ts'
import { suggestedThreads } from '../shard/threads.ts'

/** What computes a model here, after it was tried: options for createSpanRunner and createModelEnds. */
export interface OwnEngine {
  readonly library: string | undefined
  readonly provider: Provider
  readonly threads: number
  readonly exam: EngineExam
  /** What the owner should know: a GPU that is not used, a rule that does not hold. Sentences. */
  readonly notes: readonly string[]
}

/**
 * Chooses provider and threads for a model, and checks the rules of exactness with them. Throws ENGINE_UNAVAILABLE,
 * ENGINE_FAILED.
 */
export async function chooseEngine(
  engine: Config['engine'],
  { spec, recipe }: { readonly spec: ModelSpec; readonly recipe: RecipeId },
  cores: number = availableParallelism(),
): Promise<OwnEngine> {
  const library = engine.library ?? undefined
  const { provider, reason } = await chooseProvider(engine.provider, recipe, { library })
  const exam = await examineEngine(recipe, { library, provider })
  const wanted = engine.threads ?? suggestedThreads(spec, cores)
  const notes = reason === null ? [] : [`The processor computes. ${reason}`]
  notes.push(...examNotes(exam))
  return { library, provider, threads: exam.singleThread ? 1 : wanted, exam, notes }
}

/** Throws ENGINE_UNAVAILABLE when what the configuration demands cannot compute this recipe: before it is fetched. */
export async function assertProvider(engine: Config['engine'], recipe: ModelEntry['recipe']): Promise<void> {
  await chooseProvider(engine.provider, parseRecipe(recipe), { library: engine.library ?? undefined })
}

/** What an exam that went wrong means, as sentences; none when every rule holds. */
export function examNotes({ broken, exact }: EngineExam): string[] {
  const notes = broken
    .filter((rule) => rule === 'threads')
    .map(() => 'Results depend on the number of threads on this machine: one thread computes.')
  if (!exact) {
    const words = broken.filter((rule) => rule !== 'threads').map((rule) => rules[rule])
    notes.push(
      `Not true on this machine: ${words.join('; ')}. Its answers are not promised to be those of other nodes.`,
    )
  }
  return notes
}
