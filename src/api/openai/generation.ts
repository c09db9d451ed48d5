import { LlmNodeError } from '../../base/errors.ts'
import { formatSpan } from '../../base/span.ts'
import type { SamplingParams } from '../../pipeline/sampler.ts'
import type { GenerationCall, Inference, InferenceEvent, ModelCard, Where } from '../inference.ts'
import type { AskResult } from '../types.ts'
import type { NodeFields, Usage } from './chat-schema.ts'
import type { NodeWishes } from './fields.ts'
import type { InterruptedFields } from './model-schema.ts'

/** A generation that has its route: from here on its answer is a success, whatever happens later. */
export interface OpenedGeneration {
  readonly route: Extract<InferenceEvent, { type: 'route' }>
  /** What follows the route. */
  readonly events: AsyncIterable<InferenceEvent>
  /** What had come when it ended with an error. */
  readonly interrupted: InterruptedFields | undefined
  /** Ends it and waits until its KV is free. Idempotent. */
  close(): Promise<void>
}

/** Throws what stands against the request: coverage, memory, the length of the prompt. */
export async function openGeneration(
  inference: Inference,
  call: GenerationCall,
  signal: AbortSignal,
): Promise<OpenedGeneration> {
  const iterator = inference.generate(call, signal)[Symbol.asyncIterator]()
  let first = await iterator.next()
  // An answer that is taken up again may wait for its way.
  while (!first.done && first.value.type !== 'route') first = await iterator.next()
  if (first.done || first.value.type !== 'route') {
    await iterator.return?.()
    throw new LlmNodeError('INTERNAL', 'The generation began without a route.')
  }
  let interrupted: InterruptedFields | undefined
  const next = async () => {
    const found = await iterator.next()
    if (!found.done && found.value.type === 'interrupted') {
      const { text, tokens, resume } = found.value
      interrupted = { text, tokens: [...tokens], resume }
    }
    return found
  }
  return {
    route: first.value,
    // Its end is close()'s: whoever stops reading may still want to know what came last.
    events: { [Symbol.asyncIterator]: () => ({ next }) },
    get interrupted() {
      return interrupted
    },
    async close() {
      await iterator.return?.()
    },
  }
}

/** What answers a request: a model that this node can ask, or another node by its address. */
export interface Target {
  readonly name: string
  readonly where: Where
  readonly via: string | undefined
  readonly fingerprint: string
}

/** As `resolveModel`, and "MODEL@ADDRESS.llm" for a node that shall generate. Throws MODEL_NOT_FOUND. */
export function resolveTarget(cards: readonly ModelCard[], name: string): Target {
  const [, model = '', via] = /^(.*)@([a-z2-7]{56}\.llm)$/.exec(name) ?? []
  if (via !== undefined) return { name: model, where: 'auto', via, fingerprint: `fp_${via.slice(0, 16)}` }
  const { card, where } = resolveModel(cards, name)
  return { name: card.name, where, via, fingerprint: fingerprintOf(card) }
}

/** "Qwen3-0.6B@local" → its card and where to run. Throws MODEL_NOT_FOUND. */
export function resolveModel(cards: readonly ModelCard[], name: string): { card: ModelCard; where: Where } {
  const at = name.lastIndexOf('@')
  const [base, suffix] = at < 0 ? [name, 'auto'] : [name.slice(0, at), name.slice(at + 1)]
  const card = cards.find((each) => each.name === base)
  const known = suffix === 'auto' || suffix === 'local' || suffix === 'swarm'
  if (card === undefined || !known) {
    const names = cards.map((each) => each.name).join(', ')
    throw new LlmNodeError('MODEL_NOT_FOUND', `There is no model "${name}" here.`, {
      hint: names === '' ? 'This node holds the ends of no model: llm-node setup' : `This node can ask: ${names}.`,
      meta: { param: 'model' },
    })
  }
  return { card, where: suffix }
}

/** The sampling fields of a request's body, those that were given. */
export function samplingOf(
  body: {
    readonly temperature: number | undefined
    readonly top_p: number | undefined
    readonly top_k: number | undefined
    readonly min_p: number | undefined
    readonly repetition_penalty: number | undefined
    readonly frequency_penalty: number | undefined
    readonly presence_penalty: number | undefined
    readonly seed: number | undefined
  },
  logprobs: number | undefined,
): Partial<SamplingParams> {
  const wishes = {
    temperature: body.temperature,
    topP: body.top_p,
    topK: body.top_k === -1 ? 0 : body.top_k,
    minP: body.min_p,
    repetitionPenalty: body.repetition_penalty,
    frequencyPenalty: body.frequency_penalty,
    presencePenalty: body.presence_penalty,
    seed: body.seed,
    logprobs,
  }
  return Object.fromEntries(Object.entries(wishes).filter(([, value]) => value !== undefined))
}

/** What a request says about how its answer is looked after. */
export function runOf({ llm_node: wishes }: { readonly llm_node?: NodeWishes | undefined }) {
  if (wishes === undefined) return {}
  const { persist, exact, hedge, first_token_ms: firstTokenMs, token_ms: tokenMs, total_ms: totalMs } = wishes
  const run = { persist, exact, hedge, patience: { firstTokenMs, tokenMs }, totalMs, suspendMs: wishes.wait_ms }
  return { resume: wishes.resume, run }
}

export function stopsOf(stop: string | readonly string[] | undefined): readonly string[] {
  return stop === undefined ? [] : typeof stop === 'string' ? [stop] : stop
}

export function usageOf(result: AskResult): Usage {
  const completion = result.via?.tokens ?? result.tokens.length
  return {
    prompt_tokens: result.promptTokens,
    completion_tokens: completion,
    total_tokens: result.promptTokens + completion,
    prompt_tokens_details: { cached_tokens: result.cachedTokens },
  }
}

export function nodeFieldsOf({
  hops,
  exact,
  changedAt,
  seenBy,
  audit,
  estimate,
  failovers,
  profile,
}: AskResult): NodeFields {
  return {
    hops: hops.map(({ span, address, ms, linkMs, reason }) => {
      return { layers: formatSpan(span), address, ms, link_ms: linkMs, reason }
    }),
    exact,
    changed_at: changedAt,
    seen_by: seenBy,
    audit: audit === null ? null : { ...audit, liars: [...audit.liars] },
    estimate: { ...estimate },
    failovers,
    profile,
  }
}

/** Shown as system_fingerprint: equal ones give equal answers to equal seeds. */
function fingerprintOf({ modelId, recipe, numericsClass }: ModelCard): string {
  return `fp_${modelId.slice(0, 8)}_${recipe.replace('/', '.')}_${numericsClass.slice(0, 8)}`
}
