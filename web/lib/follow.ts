import { signal } from '@preact/signals'
import { ApiError, request, token } from './api.ts'
import { readEvents } from './event-stream.ts'

/** Whether what the page shows is what is happening now. */
export const connection = signal<'connecting' | 'live' | 'lost'>('connecting')

export interface Follower {
  /** Everything anew: at first, and when events were missed. */
  load(): Promise<void>
  apply(type: string, data: unknown): void
}

const FIRST_WAIT_MS = 300
const LONGEST_WAIT_MS = 5_000

/** Follows /api/events for as long as the page is open; after a break it resumes where it was. */
export async function follow(follower: Follower): Promise<void> {
  let lastId: string | undefined
  let waitMs = FIRST_WAIT_MS
  while (token.value !== null) {
    try {
      const headers = lastId === undefined ? {} : { 'last-event-id': lastId }
      const { body } = await request('/api/events', { headers })
      if (body === null) throw new ApiError(0, {})
      for await (const { type, id, data } of readEvents(body)) {
        if (type === 'hello') {
          if (!JSON.parse(data).resumed) await follower.load()
          connection.value = 'live'
          waitMs = FIRST_WAIT_MS
        } else follower.apply(type, JSON.parse(data))
        lastId = id ?? lastId
      }
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) return
    }
    connection.value = 'lost'
    await new Promise((resolve) => setTimeout(resolve, waitMs))
    waitMs = Math.min(LONGEST_WAIT_MS, waitMs * 2)
  }
}
