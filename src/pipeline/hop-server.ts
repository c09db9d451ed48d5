import { toHex } from '../base/bytes.ts'
import { LlmNodeError } from '../base/errors.ts'
import { onionLimits, pipelineLimits } from '../base/limits.ts'
import { type Span, spanContains, spanLength } from '../base/span.ts'
import type { ComputeService, ComputeSession } from '../onion/ports.ts'
import type { KvSession, SpanRunner } from '../shard/runner.ts'

/** One model of which this node computes layers for others. */
export interface ServedModel {
  readonly modelId: Uint8Array
  /** 32 bytes. */
  readonly numericsClass: Uint8Array
  readonly runner: SpanRunner
}

/** A session that others hold here, as `status` shows it. Nothing in it names the asker. */
export interface HopSessionInfo {
  readonly modelId: string
  readonly span: Span
  readonly maxContext: number
  readonly length: number
  readonly steps: number
  readonly decodeMs: number | null
  /** Ms since its last step ended; 0 during one. A chat between two turns keeps its session. */
  readonly quietMs: number
}

export interface HopServer extends ComputeService {
  serve(model: ServedModel): void
  /** No session of this model is accepted any more; running ones go on. */
  withdraw(modelId: Uint8Array): void
  /** Whether new sessions are accepted at all; running ones go on in any case. */
  accept(open: boolean): void
  readonly sessions: readonly HopSessionInfo[]
  /** Over all decode steps since the start: how many, and their mean in ms of compute. */
  readonly decode: { readonly steps: number; readonly meanMs: number | null }
  /** KV positions still free over a whole span, summed over the models. */
  readonly freeKvTokens: number
}

interface OpenSession extends Omit<HopSessionInfo, 'quietMs'> {
  length: number
  steps: number
  decodeMs: number | null
  /** Steps under way, and when the last one ended. */
  underWay: number
  lastMs: number
  readonly predecessor: string
}

/** The layers behind this node's hops: answers offers, reserves KV, computes. `onSessions` hears of opened and closed ones. */
export function createHopServer({ onSessions = () => {} }: { onSessions?: () => void } = {}): HopServer {
  const models = new Map<string, ServedModel>()
  const sessions = new Set<OpenSession>()
  const decode = { steps: 0, totalMs: 0 }
  let accepting = true

  const find = (modelId: Uint8Array, span: Span) => {
    const model = models.get(toHex(modelId))
    return model !== undefined && spanLength(span) > 0 && spanContains(model.runner.span, span) ? model : undefined
  }

  return {
    serve(model) {
      models.set(toHex(model.modelId), model)
    },
    withdraw(modelId) {
      models.delete(toHex(modelId))
    },
    accept(open) {
      accepting = open
    },
    get sessions() {
      return [...sessions].map(describe)
    },
    get decode() {
      return { steps: decode.steps, meanMs: decode.steps === 0 ? null : decode.totalMs / decode.steps }
    },
    get freeKvTokens() {
      return [...models.values()].reduce((sum, model) => sum + model.runner.freeKvTokens, 0)
    },
    offer({ modelId, span, maxContext, numericsClass }) {
      const model = find(modelId, span)
      if (model === undefined) return null
      const anyClass = numericsClass.every((byte) => byte === 0)
      if (!anyClass && toHex(numericsClass) !== toHex(model.numericsClass)) return null
      if (maxContext < 1 || maxContext > model.runner.spec.maxContext) return null
      if (!accepting || model.runner.freeKvTokens < 1) return 'busy'
      return {
        numericsClass: model.numericsClass,
        maxContext,
        idleS: onionLimits.idleS,
        lifeS: onionLimits.lifeS,
        queueBytes: onionLimits.queueBytes,
      }
    },
    open({ modelId, span, maxContext, longRope, predecessor }) {
      const model = find(modelId, span)
      if (model === undefined) throw new LlmNodeError('SPAN', 'These layers are not served here.')
      if (!accepting) throw new LlmNodeError('KV_FULL', 'This node takes no new session now.')
      admitPredecessor(model, sessions, predecessor, maxContext)
      const kv = model.runner.openSession({ span, maxContext, longRope })
      const info = freshSession({ modelId: toHex(modelId), span, maxContext, predecessor })
      sessions.add(info)
      onSessions()
      return openSession(kv, info, {
        hiddenSize: model.runner.spec.hiddenSize,
        onStep(ms) {
          decode.steps++
          decode.totalMs += ms
        },
        onClose() {
          sessions.delete(info)
          onSessions()
        },
      })
    },
  }
}

function freshSession(what: Pick<OpenSession, 'modelId' | 'span' | 'maxContext' | 'predecessor'>): OpenSession {
  return { ...what, length: 0, steps: 0, decodeMs: null, underWay: 0, lastMs: performance.now() }
}

function describe({ underWay, lastMs, predecessor: _, ...session }: OpenSession): HopSessionInfo {
  return { ...session, quietMs: underWay > 0 ? 0 : performance.now() - lastMs }
}

/** A KV session as the hop sees it, keeping `info` up to date. */
function openSession(
  kv: KvSession,
  info: OpenSession,
  on: { hiddenSize: number; onStep(ms: number): void; onClose(): void },
): ComputeSession {
  let totalMs = 0
  return {
    hiddenSize: on.hiddenSize,
    maxContext: info.maxContext,
    get length() {
      return kv.length
    },
    async forward(pos, hidden) {
      const startedMs = performance.now()
      info.underWay++
      const rows = await kv.forward(pos, hidden).finally(() => {
        info.underWay--
        info.lastMs = performance.now()
      })
      info.length = kv.length
      if (hidden.length <= on.hiddenSize * pipelineLimits.decodeRows) {
        const ms = performance.now() - startedMs
        totalMs += ms
        info.steps++
        info.decodeMs = totalMs / info.steps
        on.onStep(ms)
      }
      return rows
    },
    close() {
      on.onClose()
      kv.close()
    },
  }
}

/** When KV is short, no predecessor holds more than half of it (protocol.md §7). */
function admitPredecessor(
  model: ServedModel,
  sessions: ReadonlySet<OpenSession>,
  predecessor: string,
  maxContext: number,
): void {
  let held = 0
  let all = 0
  const modelId = toHex(model.modelId)
  for (const session of sessions) {
    if (session.modelId !== modelId) continue
    all += session.maxContext
    if (session.predecessor === predecessor) held += session.maxContext
  }
  const total = all + model.runner.freeKvTokens
  const short = model.runner.freeKvTokens < total * pipelineLimits.kvShortShare
  if (short && held > 0 && held + maxContext > total / 2) {
    throw new LlmNodeError('KV_FULL', 'This neighbour already holds half of the memory for sessions.')
  }
}
