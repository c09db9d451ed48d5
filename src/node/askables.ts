import type { CheckedAskRequest } from '../api/types.ts'
import { toHex } from '../base/bytes.ts'
import { LlmNodeError } from '../base/errors.ts'
import type { AskedProfile } from '../coverage/path.ts'
import { type AskableModel, type AskDeps, type AskOptions, type AskProgress, ask } from '../pipeline/ask.ts'
import { assertFits, requireCoverage } from '../pipeline/entry.ts'
import { encodePrompt } from '../pipeline/prompt.ts'
import type { Transcripts } from './transcripts.ts'

/**
 * The model that a request means; where it is here in several recipes, the first one that `canAnswer`. Throws NOT_SET_UP,
 * MODEL_NOT_FOUND.
 */
export function chooseModel(
  models: readonly AskableModel[],
  name: string | undefined,
  canAnswer: (model: AskableModel) => boolean = () => true,
): AskableModel {
  const [first] = models
  if (first === undefined) {
    throw new LlmNodeError('NOT_SET_UP', 'This node does not hold the ends of a model, so it cannot ask.', {
      hint: 'Fetch them: llm-node setup --layers none --ends',
    })
  }
  const meant = models.filter((model) => model.name === (name ?? first.name))
  // To find out takes a search for a route: not where there is nothing to choose.
  const found = (meant.length > 1 ? meant.find(canAnswer) : undefined) ?? meant[0]
  if (found !== undefined) return found
  throw new LlmNodeError('MODEL_NOT_FOUND', `This node does not know the model "${name}".`, {
    hint: `It can ask: ${models.map((model) => model.name).join(', ')}.`,
  })
}

/** Whether every layer of a model is held by somebody, or all of them here when nobody else may be asked. */
export function isCovered(deps: AskDeps, { solo, profile }: { solo: boolean; profile: AskedProfile }) {
  return (model: AskableModel): boolean => {
    try {
      requireCoverage(model, deps, solo ? 'local-only' : profile)
      return true
    } catch {
      return false
    }
  }
}

/** Throws CONTEXT_TOO_LONG when prompt and answer cannot fit, whoever computes: to be said before peers are looked for. */
export function assertRequestFits(model: AskableModel, { messages, prompt = '', maxTokens }: CheckedAskRequest): void {
  if (maxTokens === undefined) return
  const promptIds = encodePrompt(model.text, { messages: messages ?? [{ role: 'user', content: prompt }] })
  assertFits(model, promptIds.length + maxTokens)
}

/** Answers a checked request with one of `models`. */
export function answer(
  models: readonly AskableModel[],
  request: CheckedAskRequest,
  run: { readonly id?: string; readonly owner?: string; readonly signal: AbortSignal },
  deps: AskDeps,
  defaults: { profile: AskedProfile },
): AsyncGenerator<AskProgress> {
  const { maxTokens, stop = [], ignoreEnd, solo } = request
  const profile = request.profile ?? defaults.profile
  const model = chooseModel(models, request.model, isCovered(deps, { solo, profile }))
  const messages = request.messages ?? (request.prompt === undefined ? [] : [{ role: 'user', content: request.prompt }])
  if (messages.length === 0) throw new LlmNodeError('BAD_INPUT', 'There is nothing to answer: give a prompt.')
  const { temperature, topK, topP, minP, seed } = request
  const sampling = Object.fromEntries(
    Object.entries({ temperature, topK, topP, minP, seed }).filter(([, value]) => value !== undefined),
  )
  const how = { ...runOf(request), stop, ignoreEnd, solo, profile, owner: ADMIN, ...run }
  return ask(model, { prompt: { messages }, maxTokens, sampling, ...how }, deps)
}

/** Who asks through the command line and the pages. */
export const ADMIN = 'admin'

/** What a request says about how its answer is looked after. */
export function runOf(request: CheckedAskRequest) {
  const { logitsDigest, speculate, persist, exact, hedge, firstTokenMs, tokenMs, totalMs, waitMs } = request
  const patience = { firstTokenMs, tokenMs }
  return { logitsDigest, speculate, persist, exact, hedge, patience, totalMs, suspendMs: waitMs }
}

interface ResumeRequest extends Omit<Partial<AskOptions>, 'id' | 'owner' | 'signal'> {
  /** Absent: the latest. */
  readonly id: string | undefined
  readonly owner: string | null
  readonly signal: AbortSignal
}

/** Goes on with an answer that was interrupted. Throws BAD_INPUT when it is not there, MODEL_NOT_FOUND. */
export async function* answerAgain(
  models: readonly AskableModel[],
  { id, owner, ...run }: ResumeRequest,
  transcripts: Pick<Transcripts, 'open'>,
  deps: AskDeps,
): AsyncGenerator<AskProgress> {
  const resumed = await transcripts.open(id, owner)
  const model = models.find(({ modelId, recipe }) => toHex(modelId) === resumed.modelId && recipe === resumed.recipe)
  if (model === undefined) {
    throw new LlmNodeError(
      'MODEL_NOT_FOUND',
      `The model of this answer, ${resumed.model}, is not held here any more.`,
      {
        hint: `Fetch it in the recipe ${resumed.recipe}: llm-node setup`,
      },
    )
  }
  const { request } = resumed
  const said = { ...request, owner: request.owner ?? undefined, logitsDigest: run.logitsDigest ?? false }
  yield* ask(model, { ...said, ...definedOf(run), id: resumed.id, resumed, signal: run.signal }, deps)
}

function definedOf<T extends object>(values: T): Partial<T> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Partial<T>
}
