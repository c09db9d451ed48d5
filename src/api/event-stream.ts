import { LlmNodeError } from '../base/errors.ts'
import { apiLimits } from '../base/limits.ts'
import type { ApiContext } from './caller.ts'
import type { EventLog, LoggedEvent } from './event-log.ts'
import { eventStream } from './openai/sse.ts'

export interface EventStreams {
  /** GET /api/events. Throws LIMIT. */
  open(c: ApiContext): Response
}

/** Streams of the log. A reader that falls too far behind is cut off; it resumes by itself, or begins again. */
export function createEventStreams(
  log: EventLog,
  limits: { readonly eventStreams: number; readonly eventsWaiting: number; readonly keepAliveMs: number } = apiLimits,
): EventStreams {
  let streams = 0
  return {
    open(c) {
      if (streams >= limits.eventStreams) throw new LlmNodeError('LIMIT', 'Too many watch the events already.')
      streams++
      const gone = new AbortController()
      const reader = readLog(log, numberOf(c.req.header('last-event-id')), gone.signal, limits)
      let ended = false
      return eventStream(reader, {
        stop() {
          if (!ended) streams--
          ended = true
          gone.abort()
        },
      })
    },
  }
}

async function* readLog(
  log: EventLog,
  lastSeen: number | undefined,
  gone: AbortSignal,
  limits: { readonly eventsWaiting: number; readonly keepAliveMs: number },
): AsyncGenerator<string> {
  const missed = lastSeen === undefined ? undefined : log.since(lastSeen)
  const waiting: LoggedEvent[] = [...(missed ?? [])]
  let wake: () => void = () => {}
  let behind = false
  const unsubscribe = log.subscribe((event) => {
    if (waiting.length < limits.eventsWaiting + (missed?.length ?? 0)) waiting.push(event)
    else behind = true
    wake()
  })
  gone.addEventListener('abort', () => wake(), { once: true })
  try {
    const hello = { resumed: missed !== undefined, lastId: log.lastId }
    yield `retry: 1000\n${eventText('hello', missed === undefined ? log.lastId : (lastSeen ?? 0), JSON.stringify(hello))}`
    while (!gone.aborted && !behind) {
      const event = waiting.shift()
      if (event !== undefined) yield eventText(event.type, event.id, event.data)
      else if (!(await new Promise<boolean>(sleepUntilWoken))) yield ': keep-alive\n\n'
    }
  } finally {
    unsubscribe()
  }

  function sleepUntilWoken(resolve: (woken: boolean) => void): void {
    const timer = setTimeout(() => resolve(false), limits.keepAliveMs)
    wake = () => {
      clearTimeout(timer)
      resolve(true)
    }
  }
}

/** `data` is JSON, so it has no line break. */
function eventText(type: string, id: number, data: string): string {
  return `id: ${id}\nevent: ${type}\ndata: ${data}\n\n`
}

function numberOf(header: string | undefined): number | undefined {
  return header !== undefined && /^\d{1,16}$/.test(header) ? Number(header) : undefined
}
