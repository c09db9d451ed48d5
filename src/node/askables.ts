import type { CheckedAskRequest } from '../api/types.ts'
import { LlmNodeError } from '../base/errors.ts'
import type { AskedProfile } from '../coverage/path.ts'
import { type AskableModel, type AskDeps, type AskProgress, ask } from '../pipeline/ask.ts'

/** The model that a request means. Throws NOT_SET_UP, MODEL_NOT_FOUND. */
export function chooseModel(models: readonly AskableModel[], name: string | undefined): AskableModel {
  const [first] = models
  if (first === undefined) {
    throw new LlmNodeError('NOT_SET_UP', 'This node does not hold the ends of a model, so it cannot ask.', {
      hint: 'Fetch them: llm-node setup --layers none --ends',
    })
  }
  const found = name === undefined ? first : models.find((model) => model.name === name)
  if (found !== undefined) return found
  throw new LlmNodeError('MODEL_NOT_FOUND', `This node does not know the model "${name}".`, {
    hint: `It can ask: ${models.map((model) => model.name).join(', ')}.`,
  })
}

/** Answers a checked request with one of `models`. */
export function answer(
  models: readonly AskableModel[],
  request: CheckedAskRequest,
  signal: AbortSignal,
  deps: AskDeps,
  defaults: { profile: AskedProfile },
): AsyncGenerator<AskProgress> {
  const model = chooseModel(models, request.model)
  const messages = request.messages ?? (request.prompt === undefined ? [] : [{ role: 'user', content: request.prompt }])
  if (messages.length === 0) throw new LlmNodeError('BAD_INPUT', 'There is nothing to answer: give a prompt.')
  const { temperature, topK, topP, minP, seed } = request
  const sampling = Object.fromEntries(
    Object.entries({ temperature, topK, topP, minP, seed }).filter(([, value]) => value !== undefined),
  )
  const { maxTokens, stop = [], ignoreEnd, solo, logitsDigest, speculate } = request
  const profile = request.profile ?? defaults.profile
  const run = { stop, ignoreEnd, solo, profile, logitsDigest, speculate, owner: 'admin', signal }
  return ask(model, { prompt: { messages }, maxTokens, sampling, ...run }, deps)
}
