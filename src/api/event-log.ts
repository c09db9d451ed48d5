import { apiLimits } from '../base/limits.ts'
import type { NodeEvent } from './event-schema.ts'

/** One event as it is kept: `id` increases, also over restarts. */
export interface LoggedEvent {
  readonly id: number
  readonly type: NodeEvent['type']
  /** JSON of the event's data. */
  readonly data: string
}

/** What happens on this node, for everybody who watches, with a memory for those who come back. */
export interface EventLog {
  publish(event: NodeEvent): void
  /** Id of the newest event, or the number before the first one. */
  readonly lastId: number
  /** The kept events after `id`; undefined when some of those are gone, or the id is not of this log. */
  since(id: number): readonly LoggedEvent[] | undefined
  /** Calls for each event from now on; the result ends that. */
  subscribe(listener: (event: LoggedEvent) => void): () => void
}

/** `startedMs`, Unix ms: ids begin at a thousand times that, so that they also increase over restarts. */
export function createEventLog(
  { startedMs }: { startedMs: number },
  limits: { readonly events: number; readonly eventBytes: number } = apiLimits,
): EventLog {
  const kept: LoggedEvent[] = []
  const listeners = new Set<(event: LoggedEvent) => void>()
  const firstId = Math.floor(startedMs) * 1_000
  let lastId = firstId
  let keptBytes = 0
  return {
    get lastId() {
      return lastId
    },
    publish({ type, data }) {
      const event: LoggedEvent = { id: ++lastId, type, data: JSON.stringify(data) }
      kept.push(event)
      keptBytes += event.data.length
      while (kept.length > limits.events || (keptBytes > limits.eventBytes && kept.length > 1)) {
        keptBytes -= kept.shift()?.data.length ?? 0
      }
      for (const listener of [...listeners]) listener(event)
    },
    since(id) {
      const oldest = kept[0]?.id ?? lastId + 1
      if (id > lastId || id < oldest - 1) return undefined
      return kept.slice(id - oldest + 1)
    },
    subscribe(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
  }
}
