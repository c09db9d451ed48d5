import { randomBytes } from 'node:crypto'
import type { EventLog } from '../api/event-log.ts'
import type { GenerationBody } from '../api/types.ts'
import { LlmNodeError, toLlmNodeError } from '../base/errors.ts'
import { apiLimits } from '../base/limits.ts'
import type { AskProgress } from '../pipeline/ask.ts'

/** The answers for which this node is the entry: what the pages show of them, never their text. */
export interface Generations {
  /** The same events, noted on the way. */
  follow(
    answer: { model: string; id: string; stop: () => void },
    events: AsyncIterable<AskProgress>,
  ): AsyncGenerator<AskProgress>
  /** From now on no new one begins. */
  refuse(): void
  /** Ends a running one. False when there is none of that name. */
  stop(id: string): boolean
  /** Running ones and the last ones that ended, newest first. */
  list(): readonly GenerationBody[]
}

const KEPT = 32

export function createGenerations(log: Pick<EventLog, 'publish'>): Generations {
  const running = new Set<GenerationBody>()
  const stops = new Map<string, () => void>()
  const ended: GenerationBody[] = []
  let refusing = false
  /** Many answers share the rate of a few: whoever watches gets no more events. */
  const pauseMs = () => apiLimits.eventDelayMs * Math.max(1, running.size / 4)
  return {
    list: () => [...[...running].reverse(), ...ended].map((generation) => ({ ...generation })),
    refuse() {
      refusing = true
    },
    stop(id) {
      stops.get(id)?.()
      return stops.has(id)
    },
    async *follow({ model, id, stop }, events) {
      if (refusing) throw stopping()
      stops.set(id, stop)
      const body: GenerationBody = {
        ...fresh,
        id,
        model,
        startedMs: Date.now(),
      }
      running.add(body)
      let toldMs = 0
      let firstMs: number | undefined
      const tell = () => {
        toldMs = performance.now()
        log.publish({ type: 'generation', data: { ...body } })
      }
      tell()
      try {
        for await (const event of events) {
          note(body, event)
          if (event.type === 'text') {
            firstMs ??= performance.now()
            body.tokensPerSecond = speedOf(body.tokens, performance.now() - firstMs)
          }
          if (event.type !== 'text' || performance.now() - toldMs > pauseMs()) tell()
          yield event
        }
      } catch (thrown) {
        const { code, message, hint = null } = toLlmNodeError(thrown)
        body.state = code === 'ABORTED' ? 'stopped' : 'failed'
        body.error = code === 'ABORTED' ? null : { code, message, hint }
        throw thrown
      } finally {
        // Neither done nor failed: whoever reads has left.
        if (isOpen(body)) body.state = 'stopped'
        body.waitsFor = []
        running.delete(body)
        stops.delete(id)
        ended.unshift(body)
        ended.length = Math.min(ended.length, KEPT)
        if (body.state !== 'done') tell()
      }
    },
  }
}

/** The name of a new answer. */
export function newAnswerId(): string {
  return `gen-${randomBytes(8).toString('hex')}`
}

function stopping(): LlmNodeError {
  return new LlmNodeError('NOT_RUNNING', 'This node is stopping and begins no new answer.', {
    hint: 'Ask again when it has been started again, or another node.',
  })
}

function isOpen({ state }: GenerationBody): boolean {
  return state === 'starting' || state === 'running' || state === 'suspended'
}

const fresh = {
  state: 'starting' as const,
  hops: [],
  profile: null,
  exact: null,
  promptTokens: null,
  tokens: 0,
  tokensPerSecond: null,
  failovers: 0,
  lastFailover: null,
  error: null,
  waitsFor: [],
}

/** So far. Null with a single piece, and in the first moment, when it would be a guess. */
function speedOf(tokens: number, elapsedMs: number): number | null {
  return tokens < 2 || elapsedMs < 50 ? null : ((tokens - 1) * 1000) / elapsedMs
}

function note(body: GenerationBody, event: AskProgress): void {
  if (event.type === 'route') {
    const { hops, profile, exact, promptTokens } = event
    change(body, { state: 'running', hops: [...hops], profile, exact, promptTokens })
  } else if (event.type === 'text') {
    body.tokens++
  } else if (event.type === 'hops') {
    change(body, { hops: [...event.hops], exact: event.exact })
  } else if (event.type === 'done') {
    const { hops, profile, exact, failovers, tokensPerSecond, tokens } = event.result
    const end = { hops: [...hops], profile, exact, failovers, tokensPerSecond, tokens: tokens.length }
    change(body, { state: 'done', ...end })
  } else if (event.type === 'failover') {
    const { reason, spans } = event
    change(body, { failovers: body.failovers + 1, lastFailover: { reason, spans } })
  } else if (event.type === 'suspended') {
    change(body, { state: 'suspended', waitsFor: [...event.layers] })
  } else if (event.type === 'continued') {
    change(body, { state: 'running', waitsFor: [] })
  } else if (event.type === 'changed') {
    change(body, { exact: false })
  }
}

function change(body: GenerationBody, fields: Partial<GenerationBody>): void {
  Object.assign(body, fields)
}
