import { createHash, randomBytes } from 'node:crypto'
import { toHex } from '../base/bytes.ts'
import { type ErrorCode, LlmNodeError, toLlmNodeError } from '../base/errors.ts'
import type { AskedProfile, Profile } from '../coverage/path.ts'
import { type AskSessionDeps, openMakingRoom, type SessionModel, startSession, type WayWishes } from './ask-session.ts'
import type { WayNews } from './attempts.ts'
import type { AuditResult } from './audit.ts'
import type { AuditBook } from './audit-book.ts'
import { createAuditor } from './auditor.ts'
import type { ChainHop } from './chain.ts'
import { createDrafter } from './drafter.ts'
import type { OpenedChain } from './entry.ts'
import { type Experience, estimateOf, type Seen, type SpeedEstimate, seenIn } from './experience.ts'
import { type FinishReason, type GeneratedToken, generate } from './generate.ts'
import { createMailbox } from './mailbox.ts'
import { type AskPrompt, encodePrompt, type Thinking, thinkingOf } from './prompt.ts'
import { readText, type TextProgress, type TextSoFar, telling } from './read-text.ts'
import { neutralSampling, type SamplingParams } from './sampler.ts'
import type { Transcript, TranscriptLog, TranscriptStore } from './transcript.ts'
import type { Pinned } from './ways.ts'

/** A model that this node can ask: its ends and its text side are here. */
export interface AskableModel extends SessionModel {}

export interface AskOptions extends WayWishes {
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
  /** Names the answer; with it, and unless `persist` is false, it can go on after a restart of this node. */
  readonly id?: string | undefined
  readonly persist?: boolean | undefined
  /** An answer that is taken up again: it says what was said already, and goes on from there. */
  readonly resumed?: Transcript | undefined
  /** Ms for the whole answer; then it ends with DEADLINE. */
  readonly totalMs?: number | undefined
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
  /** Index of the first token that was computed in another numerics class than the first; null: none. */
  readonly changedAt: number | null
  /** How many peers were sent what the text can be reconstructed from. */
  readonly seenBy: number
  /** What an audit has found; null: none was drawn. */
  readonly audit: AuditResult | null
  /** Tokens that were guessed ahead, and those of them that were right. */
  readonly drafted: number
  readonly accepted: number
  /** Of the steps after the first token; null with fewer than two. */
  readonly tokensPerSecond: number | null
  readonly estimate: SpeedEstimate
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
  | TextProgress
  /** It ends with an error, which follows. Its text so far, and the name under which it can be taken up again. */
  | {
      readonly type: 'interrupted'
      readonly text: string
      readonly tokens: readonly number[]
      readonly resume: string | null
    }
  | { readonly type: 'done'; readonly result: AskAnswer }

const DEFAULT_MAX_TOKENS = 512

export interface AskDeps extends AskSessionDeps {
  /** Where answers are kept for after a restart. */
  readonly transcripts?: TranscriptStore
  /** Draws answers to be computed again by others. Without it none is. */
  readonly audits?: AuditBook
  readonly experience?: Experience
}

/** One answer: prompt in, text out as it comes, and at last what there is to know about it. Throws what its parts throw. */
export async function* ask(model: AskableModel, options: AskOptions, deps: AskDeps): AsyncGenerator<AskProgress> {
  const { totalMs } = options
  const limit = totalMs === undefined ? undefined : AbortSignal.timeout(totalMs)
  const signal = limit === undefined ? options.signal : AbortSignal.any([options.signal, limit])
  const soFar: TextSoFar = { text: '', ids: [] }
  const keeper: Keeper = { suspended: false }
  const learn = deps.experience?.begin()
  let kept = false
  try {
    yield* answer(model, { ...options, signal, soFar, keeper }, deps)
  } catch (thrown) {
    const error = limit?.aborted === true && !options.signal.aborted ? tooLate(totalMs ?? 0) : toLlmNodeError(thrown)
    kept = keeper.log !== undefined && (keeper.suspended || RESUMABLE.has(error.code))
    if (error.code !== 'ABORTED' && soFar.ids.length > 0) {
      const resume = kept ? (options.id ?? null) : null
      yield { type: 'interrupted', text: soFar.text, tokens: soFar.ids, resume }
    }
    throw kept && options.id !== undefined ? resumable(error, options.id) : error
  } finally {
    learn?.(keeper.seen)
    if (kept) await keeper.log?.flush()
    else await keeper.log?.discard()
  }
}

/** After these an answer may go on later: others, or more time, may mend what stands in its way. */
const RESUMABLE: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'COVERAGE_GAP',
  'COVERAGE_FRAGMENTED',
  'NO_RELAY',
  'CIRCUIT_BROKEN',
  'HOP_TIMEOUT',
  'PEER_REFUSED',
  'PEER_UNREACHABLE',
  'AUTH_FAILED',
  'DEADLINE',
])

/** The same, saying how it can go on. */
function resumable(error: LlmNodeError, id: string): LlmNodeError {
  const { code, message, hint = '', meta } = error
  const more = `What was said so far is kept: it can go on as ${id} (ask --resume).`
  return new LlmNodeError(code, message, {
    hint: `${hint} ${more}`.trim(),
    meta: { ...meta, resume: id },
    cause: error,
  })
}

function tooLate(totalMs: number): LlmNodeError {
  return new LlmNodeError('DEADLINE', `The answer was not finished within ${totalMs} ms.`, {
    hint: 'Allow more time, or ask for fewer tokens.',
    meta: { totalMs },
  })
}

interface Answering extends AskOptions {
  readonly soFar: TextSoFar
  readonly keeper: Keeper
}

/** What is left of an answer when it ends. */
interface Keeper {
  log?: TranscriptLog | undefined
  suspended: boolean
  seen?: Seen | undefined
}

async function* answer(model: AskableModel, options: Answering, deps: AskDeps): AsyncGenerator<AskProgress> {
  const { signal, logitsDigest, resumed, soFar, keeper } = options
  const promptIds = resumed?.promptIds ?? encodePrompt(model.text, options.prompt)
  const begun = resumed?.ids ?? []
  const maxTokens = maxTokensOf(model, options, promptIds)
  const sampling = samplingOf(model, options.sampling)
  const ways = createWays(options)
  const auditor = createAuditor(model, deps)
  const { onRows } = auditor
  const wish = { ...options, promptIds, maxTokens, onNews: ways.onNews, pinned: pinnedOf(resumed), onRows }
  const { session, seen, onSent, cachedTokens, keep, remember } = startSession(model, wish, deps)
  try {
    const opening = openMakingRoom(() => session.open(signal, promptIds.length + begun.length), deps)
    const opened = yield* telling(opening, ways.news, begun.length)
    remember(opened)
    auditor.draw(opened)
    keeper.log = beginTranscript(model, { ...options, promptIds, maxTokens, sampling, begun }, opened, deps)
    const { chain, plan } = opened
    const exact = opened.exact && (resumed === undefined || resumed.ownClass === model.numericsClass)
    const about = { exact, promptTokens: promptIds.length, thinking: thinkingOf(model.text, promptIds) }
    yield { type: 'route', hops: chain.hops, profile: plan.profile, ...about }
    const digests: string[] = []
    const drafter = createDrafter()
    const tokens = generate(
      { promptIds, begun, maxTokens, sampling, endTokens: endTokensOf(model, options), signal },
      {
        ends: model.ends,
        session,
        drafter: options.speculate === false || deps.privacy?.cadenceMs !== undefined ? undefined : drafter,
        ...(logitsDigest ? { onLogits: (_: number, logits: Float32Array) => digests.push(digest(logits)) } : {}),
      },
    )
    const noted = noting(tokens, keeper.log)
    const reading = { news: ways.news, soFar, begun, current: () => session.current }
    const output = yield* readText(noted, reading, model.text, options.stop)
    const { current: last } = session
    if (last === undefined) throw new LlmNodeError('INTERNAL', 'An answer without a chain.')
    const audit = await auditor.run([...promptIds, ...output.tokens], last, {
      onSent: (plan) => onSent({ plan }),
      signal,
    })
    if (audit?.state !== 'failed') keep()
    const { drafted, accepted } = drafter
    keeper.seen = seenIn(model, last, { ...output, failovers: ways.failovers, accepted })
    yield {
      type: 'done',
      result: {
        ...output,
        promptTokens: promptIds.length,
        cachedTokens,
        exact: exact && last.exact && ways.changedAt === null,
        hops: last.chain.hops,
        failovers: ways.failovers,
        changedAt: ways.changedAt,
        seenBy: seen.size,
        audit,
        drafted,
        accepted,
        estimate: estimateOf(model, last, deps.experience),
        model: model.name,
        profile: last.plan.profile,
        ...(logitsDigest ? { logitsSha256: digests } : {}),
      },
    }
  } finally {
    await session.close()
  }
}

/** News of the ways, and what they come to. */
function createWays({ soFar, keeper }: Pick<Answering, 'soFar' | 'keeper'>) {
  const news = createMailbox<WayNews>()
  const ways = {
    news,
    failovers: 0,
    changedAt: null as number | null,
    onNews(each: WayNews): void {
      if (each.type === 'failover') ways.failovers++
      if (each.type === 'changed') ways.changedAt ??= soFar.ids.length
      if (each.type === 'suspended') keeper.suspended = true
      if (each.type === 'continued') keeper.suspended = false
      news.post(each)
    },
  }
  return ways
}

/** The same tokens, written down on the way. */
async function* noting(
  tokens: AsyncGenerator<GeneratedToken, FinishReason>,
  log: TranscriptLog | undefined,
): AsyncGenerator<GeneratedToken, FinishReason> {
  try {
    for (;;) {
      const next = await tokens.next()
      if (next.done) return next.value
      log?.add([next.value.id])
      yield next.value
    }
  } finally {
    await tokens.return('stop')
  }
}

function pinnedOf(resumed: Transcript | undefined): Pinned | undefined {
  if (resumed === undefined) return undefined
  const { numericsClass, maxContext, request } = resumed
  return { numericsClass: numericsClass ?? undefined, maxContext, profile: request.profile }
}

interface Begun extends Answering {
  readonly promptIds: readonly number[]
  readonly maxTokens: number
  readonly sampling: SamplingParams
  readonly begun: readonly number[]
}

function beginTranscript(
  model: AskableModel,
  { id, persist, promptIds, maxTokens, sampling, begun, ...options }: Begun,
  { plan, chain }: OpenedChain,
  { transcripts }: AskDeps,
): TranscriptLog | undefined {
  if (id === undefined || persist === false || transcripts === undefined) return undefined
  const { prompt, stop, ignoreEnd, solo, swarm = false, exact = true, owner = null, resumed } = options
  const log = transcripts.begin({
    id,
    createdMs: resumed?.createdMs ?? Date.now(),
    model: model.name,
    modelId: toHex(model.modelId),
    recipe: model.recipe,
    numericsClass: plan.numericsClass ?? null,
    ownClass: resumed?.ownClass ?? model.numericsClass,
    maxContext: chain.maxContext,
    promptIds,
    request: { prompt, maxTokens, sampling, stop, ignoreEnd, solo, swarm, profile: plan.profile, exact, owner },
  })
  if (begun.length > 0) log.add(begun)
  return log
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
