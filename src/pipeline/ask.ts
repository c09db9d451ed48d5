import { createHash, randomBytes } from 'node:crypto'
import { toHex } from '../base/bytes.ts'
import { isLlmNodeError, LlmNodeError } from '../base/errors.ts'
import { pipelineLimits } from '../base/limits.ts'
import type { AskedProfile, Profile } from '../coverage/path.ts'
import type { ModelEnds } from '../shard/ends.ts'
import { shortFactorLimit } from '../shard/rope.ts'
import { type AnswerToken, createTokenTrail } from './answer-tokens.ts'
import { createAttempts, type Failover } from './attempts.ts'
import type { ChainHop } from './chain.ts'
import type { ChatProfiles } from './chat-profiles.ts'
import { createDrafter } from './drafter.ts'
import { type EntryDeps, type EntryModel, type OpenedChain, prepareChain } from './entry.ts'
import { type FinishReason, generate } from './generate.ts'
import type { IdleChains } from './idle-chains.ts'
import { createMailbox, type Mailbox } from './mailbox.ts'
import { type AskPrompt, encodePrompt, firstTurnLength, type Thinking, thinkingOf } from './prompt.ts'
import { neutralSampling, type SamplingParams } from './sampler.ts'
import { commonLength, createSession } from './session.ts'
import { createStopDetector } from './stop-detector.ts'
import type { TextModel } from './text-model.ts'

/** A model that this node can ask: its ends and its text side are here. */
export interface AskableModel extends EntryModel {
  readonly ends: ModelEnds
  readonly text: TextModel
}

export interface AskOptions {
  readonly prompt: AskPrompt
  /** Default: 512, or what the model's context leaves. */
  readonly maxTokens?: number | undefined
  /** Absent fields come from the model's generation_config.json; an absent seed is drawn. */
  readonly sampling: Partial<SamplingParams>
  readonly stop: readonly string[]
  /** Go on past end tokens: for measuring. */
  readonly ignoreEnd: boolean
  /** Run all layers in this process. */
  readonly solo: boolean
  /** Let the swarm compute all layers, also those that this process holds. */
  readonly swarm?: boolean | undefined
  /** Who may see what; default `direct`. Never less than that: an error otherwise. */
  readonly profile?: AskedProfile | undefined
  /** Report the SHA-256 of the logits of every token. */
  readonly logitsDigest: boolean
  /** Guess tokens ahead where it pays; the answer is the same. Default true. */
  readonly speculate?: boolean | undefined
  /** Who asks, for example the label of an API key: only with it, and only for it, a chat's chain is kept. */
  readonly owner?: string | undefined
  readonly signal: AbortSignal
}

export interface AskAnswer {
  readonly text: string
  /** Generated ids, without the end token. */
  readonly tokens: readonly number[]
  readonly promptTokens: number
  /** Of those, the ones whose keys and values were there from an earlier turn. */
  readonly cachedTokens: number
  readonly finishReason: FinishReason
  readonly exact: boolean
  readonly hops: readonly ChainHop[]
  /** How often the answer went on over another way. */
  readonly failovers: number
  /** Tokens that were guessed ahead, and those of them that were right. */
  readonly drafted: number
  readonly accepted: number
  /** Of the steps after the first token; null with fewer than two. */
  readonly tokensPerSecond: number | null
  readonly estimate: OpenedChain['estimate']
  readonly model: string
  /** Who can see what, as it was in force; without a circuit 'local-only'. */
  readonly profile: Profile
  readonly logitsSha256?: readonly string[]
}

export type AskProgress =
  | {
      readonly type: 'route'
      readonly hops: readonly ChainHop[]
      readonly profile: AskAnswer['profile']
      readonly exact: boolean
      readonly promptTokens: number
      readonly thinking: Thinking
    }
  /** `tokens` only with `sampling.logprobs`; a token comes with the first part of its text. */
  | { readonly type: 'text'; readonly text: string; readonly tokens?: readonly AnswerToken[] }
  /** A hop has failed before token `index`; the answer goes on over others, or an error follows. */
  | ({ readonly type: 'failover'; readonly index: number } & Failover)
  /** Who computes now, with what it takes: told at times, and when it has changed. */
  | { readonly type: 'hops'; readonly hops: readonly ChainHop[]; readonly exact: boolean }
  | { readonly type: 'done'; readonly result: AskAnswer }

const DEFAULT_MAX_TOKENS = 512
/** How often a running answer tells what its hops take. */
const HOPS_MS = 500

export interface AskDeps extends EntryDeps {
  /** Chains of earlier turns. Without it every answer builds its own and closes it. */
  readonly idle?: IdleChains
  /** Profiles of chats that may go on. */
  readonly chats?: ChatProfiles
}

/** One answer: prompt in, text out as it comes, and at last what there is to know about it. Throws what its parts throw. */
export async function* ask(model: AskableModel, options: AskOptions, deps: AskDeps): AsyncGenerator<AskProgress> {
  const { signal, logitsDigest } = options
  const promptIds = encodePrompt(model.text, options.prompt)
  const maxTokens = maxTokensOf(model, options, promptIds)
  const failovers = createMailbox<Failover>()
  const { session, cachedTokens, keep, remember } = startSession(
    model,
    { ...options, promptIds, maxTokens, failovers },
    deps,
  )
  try {
    const opened = await openMakingRoom(() => session.open(signal, promptIds.length), deps)
    remember(opened)
    const { chain, exact, plan } = opened
    const about = { exact, promptTokens: promptIds.length, thinking: thinkingOf(model.text, promptIds) }
    yield { type: 'route', hops: chain.hops, profile: plan.profile, ...about }
    const digests: string[] = []
    const drafter = createDrafter()
    const sampling = samplingOf(model, options.sampling)
    const tokens = generate(
      { promptIds, maxTokens, sampling, endTokens: endTokensOf(model, options), signal },
      {
        ends: model.ends,
        session,
        drafter: options.speculate === false || deps.privacy?.cadenceMs !== undefined ? undefined : drafter,
        ...(logitsDigest ? { onLogits: (_: number, logits: Float32Array) => digests.push(digest(logits)) } : {}),
      },
    )
    const output = yield* readText(tokens, { failovers, current: () => session.current }, model.text, options.stop)
    const last = keep()
    const { drafted, accepted } = drafter
    yield {
      type: 'done',
      result: {
        ...output,
        promptTokens: promptIds.length,
        cachedTokens,
        exact: last.exact,
        hops: last.chain.hops,
        failovers: failovers.count,
        drafted,
        accepted,
        estimate: last.estimate,
        model: model.name,
        profile: last.plan.profile,
        ...(logitsDigest ? { logitsSha256: digests } : {}),
      },
    }
  } finally {
    await session.close()
  }
}

function maxTokensOf(model: AskableModel, options: AskOptions, promptIds: readonly number[]): number {
  const maxTokens = options.maxTokens ?? Math.min(DEFAULT_MAX_TOKENS, model.spec.maxContext - promptIds.length)
  if (maxTokens >= 1) return maxTokens
  throw new LlmNodeError(
    'CONTEXT_TOO_LONG',
    `The prompt has ${promptIds.length} tokens; ${model.name} holds ${model.spec.maxContext}, the answer included.`,
    { hint: 'Shorten the prompt.' },
  )
}

interface SessionWish extends Pick<AskOptions, 'prompt' | 'solo' | 'swarm' | 'profile' | 'owner'> {
  readonly promptIds: readonly number[]
  readonly maxTokens: number
  readonly failovers: Mailbox<Failover>
}

/** A session, on the chain of the chat's last turn where that is still there. `keep` leaves it for the next turn. */
function startSession(model: AskableModel, wish: SessionWish, deps: AskDeps) {
  const { prompt, promptIds, maxTokens, solo, swarm, failovers } = wish
  // Other texts than chats rarely go on; and without a name nobody may find what another one has left.
  const idle = 'messages' in prompt && wish.owner !== undefined ? deps.idle : undefined
  const roomyContext = idle === undefined ? undefined : pipelineLimits.chatContext
  const maxContext = promptIds.length + maxTokens
  const onFailover = (failover: Failover) => {
    failovers.post(failover)
    // What refused may be short of the very memory that these hold.
    if (failover.reason === 'PEER_REFUSED') void deps.idle?.clear()
  }
  const asked = wish.profile ?? 'direct'
  const owner = JSON.stringify([wish.owner, toHex(model.modelId), model.recipe, solo, swarm === true, asked])
  const sameIds = 'messages' in prompt ? firstTurnLength(model.text, prompt, promptIds) : 0
  const chat = wish.owner === undefined ? undefined : { owner, firstIds: promptIds.slice(0, sameIds) }
  // What a chat began with stays, also when its chain has gone.
  const profile = asked === 'auto' && chat !== undefined ? (deps.chats?.of(chat) ?? asked) : asked
  const request = { maxContext, roomyContext, solo, swarm, profile }
  const attempts = createAttempts(model, { request, onFailover }, deps)
  const shortLimit = shortFactorLimit(model.spec.rope)
  const held = idle?.take({
    owner,
    promptIds,
    sameIds,
    maxContext,
    longRope: promptIds.length > (shortLimit ?? maxContext),
  })
  const session = createSession({ ends: model.ends, attempts, held, shortLimit })
  return {
    session,
    remember: ({ plan }: OpenedChain) => {
      if (chat !== undefined && asked === 'auto') deps.chats?.note(chat, plan.profile)
    },
    cachedTokens: held === undefined ? 0 : Math.min(commonLength(held.ids, promptIds), promptIds.length - 1),
    keep(): OpenedChain {
      const { current } = session
      if (current === undefined) throw new LlmNodeError('INTERNAL', 'An answer without a chain.')
      const released = idle === undefined ? undefined : session.release()
      if (released !== undefined) idle?.put(owner, released)
      // Each chat has a circuit of its own; who has begun one will begin another.
      if (released !== undefined) void prepareChain(model, { ...request, profile: asked }, deps)
      return current
    },
  }
}

/** Local memory for a session may be held by chains that only wait. */
async function openMakingRoom(open: () => Promise<OpenedChain>, { idle }: AskDeps): Promise<OpenedChain> {
  try {
    return await open()
  } catch (error) {
    if (!isLlmNodeError(error, 'KV_FULL') || idle === undefined || idle.size === 0) throw error
    await idle.clear()
    return open()
  }
}

/** Text as it settles; a stop string ends the answer before it and is not part of it. */
async function* readText(
  generated: ReturnType<typeof generate>,
  { failovers, current }: { failovers: Mailbox<Failover>; current: () => OpenedChain | undefined },
  text: TextModel,
  stop: readonly string[],
): AsyncGenerator<AskProgress, Pick<AskAnswer, 'text' | 'tokens' | 'finishReason' | 'tokensPerSecond'>> {
  const detokenizer = text.tokenizer.createDetokenizer({ skipSpecialTokens: true })
  const detector = createStopDetector(stop)
  const trail = createTokenTrail(text.tokenizer)
  const ids: number[] = []
  let answer = ''
  let produced = 0
  let finishReason: FinishReason = 'stop'
  let firstMs = 0
  let lastMs = 0
  let toldMs = 0
  for (;;) {
    const coming = generated.next()
    while (await failovers.comesBefore(coming)) {
      for (const failover of failovers.take()) yield { type: 'failover', index: ids.length, ...failover }
      toldMs = 0
    }
    const next = await coming
    if (!next.done) {
      lastMs = performance.now()
      const opened = lastMs - toldMs > HOPS_MS ? current() : undefined
      if (opened !== undefined) {
        toldMs = lastMs
        yield { type: 'hops', hops: opened.chain.hops, exact: opened.exact }
      }
      if (ids.length === 0) firstMs = lastMs
      ids.push(next.value.id)
      trail.push(next.value, produced)
    }
    const delta = next.done ? detokenizer.flush() : detokenizer.push(next.value.id)
    produced += delta.length
    const found = detector.push(delta)
    const settled = next.done && !found.stopped ? found.text + detector.flush() : found.text
    answer += settled
    const tokens = trail.take(next.done && !found.stopped ? Number.POSITIVE_INFINITY : answer.length)
    if (settled !== '' || tokens.length > 0)
      yield { type: 'text', text: settled, ...(tokens.length > 0 ? { tokens } : {}) }
    if (found.stopped) await generated.return('stop')
    if (next.done) finishReason = next.value
    if (next.done || found.stopped) break
  }
  const steps = ids.length - 1
  return {
    text: answer,
    tokens: ids,
    finishReason,
    tokensPerSecond: steps < 1 ? null : (steps * 1000) / (lastMs - firstMs),
  }
}

function samplingOf(model: AskableModel, wishes: Partial<SamplingParams>): SamplingParams {
  return {
    ...neutralSampling,
    ...model.text.defaults.sampling,
    // 32 bits: every seed is a safe integer that people can type.
    seed: randomBytes(4).readUInt32BE(),
    ...wishes,
    nTokens: Math.min(model.text.tokenizer.nTokens, model.spec.vocabSize),
  }
}

function endTokensOf(model: AskableModel, { ignoreEnd }: AskOptions): readonly number[] {
  return ignoreEnd ? [] : model.text.defaults.endTokens
}

function digest(logits: Float32Array): string {
  return createHash('sha256')
    .update(new Uint8Array(logits.buffer, logits.byteOffset, logits.byteLength))
    .digest('hex')
}
