import { checkAsk } from '../api/check-ask.ts'
import type { CheckedAskRequest } from '../api/types.ts'
import type { Clock } from '../base/clock.ts'
import type { Config } from '../base/config.ts'
import { LlmNodeError } from '../base/errors.ts'
import { onionLimits } from '../base/limits.ts'
import type { Logger } from '../base/logger.ts'
import type { AnswerService } from '../onion/ports.ts'
import { createTokenBucket } from '../onion/rate-limit.ts'
import type { AskProgress } from '../pipeline/ask.ts'
import { type AnswerRequest, callerOf, readAnswerRequest, writeAnswerLine } from './answer-messages.ts'
import { answer, chooseModel } from './askables.ts'
import { newAnswerId } from './generations.ts'
import type { NodeParts } from './parts.ts'
import { entryDeps } from './serving.ts'

export interface AnsweringDeps {
  /** Generates as if this node had been asked by its owner; nothing is shared with other callers. */
  readonly generate: (request: CheckedAskRequest, signal: AbortSignal) => AsyncIterable<AskProgress>
  /** False while there is no model that can be asked. */
  readonly isReady: () => boolean
  readonly clock: Clock
  readonly logger: Logger
}

/**
 * Lets others generate on this node, within the limits that its owner sets (config `answers`): off unless somebody is
 * allowed. A caller is known only by what it proves itself; who stands behind a circuit is nowhere asked, kept or logged.
 */
export function createAnswering(
  options: { network: string; config: Config['answers'] },
  deps: AnsweringDeps,
): AnswerService {
  const { strangers, allow, atOnce, maxTokens } = options.config
  const allowed = new Set(allow)
  const quotas = createQuotas(options.config.perMinute, deps.clock)
  let running = 0
  const admit = (request: AnswerRequest, exporter: Uint8Array): void => {
    const caller = callerOf(request, { exporter, network: options.network })
    const known = caller !== undefined && allowed.has(caller)
    if (!known && !strangers) throw new LlmNodeError('PEER_REFUSED', 'This node does not answer strangers.')
    if (!quotas.take(known ? caller : 'strangers')) throw new LlmNodeError('LIMIT', 'Too many requests.')
    deps.logger.info({ caller: known ? caller : 'a stranger' }, 'answering over a circuit')
  }
  return {
    offer() {
      if ((!strangers && allowed.size === 0) || !deps.isReady()) return null
      if (running >= atOnce) return 'busy'
      return { idleS: onionLimits.idleS, lifeS: onionLimits.lifeS, queueBytes: onionLimits.queueBytes }
    },
    async *answer(body, { exporter, signal }) {
      const request = readAnswerRequest(body)
      admit(request, exporter)
      // Counted here as well: many circuits may have been granted before the first request came.
      if (running >= atOnce) throw new LlmNodeError('LIMIT', 'Too many answers are under way.')
      running++
      try {
        const { auth: _, ...asked } = request
        const most = Math.min(asked.maxTokens ?? maxTokens, maxTokens)
        for await (const event of deps.generate(checkAsk({ ...asked, maxTokens: most }), signal)) {
          if (event.type === 'text') yield writeAnswerLine({ delta: event.text })
          if (event.type === 'done') yield writeAnswerLine({ done: summaryOf(event.result) })
        }
      } finally {
        running--
      }
    },
  }
}

/** One answer for somebody else: with its own memory, so that nobody learns from its speed what others have asked. */
export function generateForOthers(
  parts: NodeParts,
  request: CheckedAskRequest,
  signal: AbortSignal,
): AsyncGenerator<AskProgress> {
  const id = newAnswerId()
  const stopper = new AbortController()
  const askables = parts.models.flatMap((model) => model.askable ?? [])
  const { name } = chooseModel(askables, request.model)
  const run = { id, owner: id, signal: AbortSignal.any([signal, stopper.signal]) }
  const events = answer(askables, { ...request, persist: false }, run, entryDeps(parts), parts.config.privacy)
  return parts.generations.follow({ model: name, id, stop: () => stopper.abort() }, events)
}

function summaryOf({
  model,
  finishReason,
  exact,
  promptTokens,
  tokens,
}: Extract<AskProgress, { type: 'done' }>['result']) {
  return { model, finishReason, exact, promptTokens, completionTokens: tokens.length }
}

/** One bucket for each allowed caller, and one for all strangers together: no more than the allow-list has entries. */
function createQuotas(perMinute: number, clock: Clock) {
  const buckets = new Map<string, ReturnType<typeof createTokenBucket>>()
  return {
    take(caller: string): boolean {
      const bucket = buckets.get(caller) ?? createTokenBucket({ perS: perMinute / 60, burst: perMinute }, clock)
      buckets.set(caller, bucket)
      return bucket.take(1)
    },
  }
}
