import { toHex } from '../base/bytes.ts'
import { isLlmNodeError } from '../base/errors.ts'
import { pipelineLimits } from '../base/limits.ts'
import type { AskedProfile } from '../coverage/path.ts'
import type { ModelEnds } from '../shard/ends.ts'
import { shortFactorLimit } from '../shard/rope.ts'
import { createAttempts, type WayNews } from './attempts.ts'
import type { ChatProfiles } from './chat-profiles.ts'
import { type EntryDeps, type EntryModel, type OpenedChain, prepareChain } from './entry.ts'
import type { IdleChains } from './idle-chains.ts'
import { type AskPrompt, firstTurnLength } from './prompt.ts'
import { commonLength, createSession, type Patience, type Session } from './session.ts'
import { createStandby } from './standby.ts'
import type { TextModel } from './text-model.ts'
import type { Pinned } from './ways.ts'

/** A model that this node can ask: its ends and its text side are here. */
export interface SessionModel extends EntryModel {
  readonly ends: ModelEnds
  readonly text: TextModel
}

export interface AskSessionDeps extends EntryDeps {
  /** Chains of earlier turns. Without it every answer builds its own and closes it. */
  readonly idle?: IdleChains
  /** Profiles of chats that may go on. */
  readonly chats?: ChatProfiles
}

/** How an answer is looked after on its way. */
export interface WayWishes {
  /** False: rather go on in another numerics class, marked, than wait for the one in which the answer began. */
  readonly exact?: boolean | undefined
  /** A second circuit races the first one for the first token, and when a step is slow. */
  readonly hedge?: boolean | undefined
  /** Before another way is tried; default: what the circuit's own measurements say (protocol.md §6). */
  readonly patience?: Patience | undefined
  /** How long it may wait for somebody who holds missing layers; default: a day. */
  readonly suspendMs?: number | undefined
}

export interface SessionWish extends WayWishes {
  readonly prompt: AskPrompt
  readonly solo: boolean
  readonly swarm?: boolean | undefined
  readonly profile?: AskedProfile | undefined
  readonly owner?: string | undefined
  readonly promptIds: readonly number[]
  readonly maxTokens: number
  readonly onNews: (news: WayNews) => void
  /** Of an answer that is taken up again. */
  readonly pinned?: Pinned | undefined
  readonly onRows?: ((ids: readonly number[], rows: Float32Array, by: OpenedChain) => void) | undefined
}

export interface AskSession {
  readonly session: Session
  /** Prompt tokens whose keys and values are there from an earlier turn. */
  readonly cachedTokens: number
  /** Addresses of peers that were sent what text can be made of. */
  readonly seen: ReadonlySet<string>
  onSent(opened: Pick<OpenedChain, 'plan'>): void
  remember(opened: OpenedChain): void
  /** Leaves the chain for the chat's next turn. */
  keep(): void
}

/** A session, on the chain of the chat's last turn where that is still there. */
export function startSession(model: SessionModel, wish: SessionWish, deps: AskSessionDeps): AskSession {
  const { prompt, promptIds, maxTokens, solo, swarm, pinned } = wish
  // Other texts than chats rarely go on; and without a name nobody may find what another one has left.
  const idle = 'messages' in prompt && wish.owner !== undefined ? deps.idle : undefined
  const roomyContext = idle === undefined ? undefined : pipelineLimits.chatContext
  const maxContext = pinned?.maxContext ?? promptIds.length + maxTokens
  const onNews = (news: WayNews) => {
    wish.onNews(news)
    // What refused may be short of the very memory that these hold.
    if (news.type === 'failover' && news.reason === 'PEER_REFUSED') void deps.idle?.clear()
  }
  const asked = wish.profile ?? 'direct'
  const owner = JSON.stringify([wish.owner, toHex(model.modelId), model.recipe, solo, swarm === true, asked])
  const sameIds = 'messages' in prompt ? firstTurnLength(model.text, prompt, promptIds) : 0
  const chat = wish.owner === undefined ? undefined : { owner, firstIds: promptIds.slice(0, sameIds) }
  // What a chat began with stays, also when its chain has gone.
  const profile = asked === 'auto' && chat !== undefined ? (deps.chats?.of(chat) ?? asked) : asked
  const request = { maxContext, roomyContext, solo, swarm, profile }
  const suspendMs = wish.suspendMs ?? pipelineLimits.suspendMs
  const attempts = createAttempts(model, { request, onNews, pinned, exact: wish.exact, suspendMs }, deps)
  const shortLimit = shortFactorLimit(model.spec.rope)
  const longRope = promptIds.length > (shortLimit ?? maxContext)
  const held = idle?.take({ owner, promptIds, sameIds, maxContext, longRope })
  const seen = new Set<string>()
  const onSent = ({ plan }: Pick<OpenedChain, 'plan'>) => {
    for (const { holder } of plan.route?.hops ?? []) seen.add(holder.address)
  }
  const session = createSession({
    ends: model.ends,
    attempts,
    held,
    shortLimit,
    standby: createStandby({ ends: model.ends, attempts, onSent }),
    hedge: wish.hedge,
    patience: wish.patience,
    onRows: wish.onRows,
    onSent,
  })
  return {
    session,
    seen,
    onSent,
    cachedTokens: held === undefined ? 0 : Math.min(commonLength(held.ids, promptIds), promptIds.length - 1),
    remember: ({ plan }) => {
      if (chat !== undefined && asked === 'auto') deps.chats?.note(chat, plan.profile)
    },
    keep() {
      const released = idle === undefined ? undefined : session.release()
      if (released === undefined) return
      idle?.put(owner, released)
      // Each chat has a circuit of its own; who has begun one will begin another.
      void prepareChain(model, { ...request, profile: asked }, deps)
    },
  }
}

/** Local memory for a session may be held by chains that only wait. */
export async function openMakingRoom(
  open: () => Promise<OpenedChain>,
  { idle }: Pick<AskSessionDeps, 'idle'>,
): Promise<OpenedChain> {
  try {
    return await open()
  } catch (error) {
    if (!isLlmNodeError(error, 'KV_FULL') || idle === undefined || idle.size === 0) throw error
    await idle.clear()
    return open()
  }
}
