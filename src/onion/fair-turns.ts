import type { Timers } from '../base/timers.ts'
import type { TokenBucket } from './rate-limit.ts'

/** A queue that has something for the shared link budget. */
export interface TurnTaker {
  /** Bytes of the frame that it would send now; undefined: it cannot send, or has nothing. */
  ready(): number | undefined
  /** Sends that frame. */
  sendNext(): void
}

/** One budget of bytes for many queues. Those that wait take turns by peer, so that many circuits are no advantage. */
export interface FairTurns {
  /** Takes the bytes if nobody waits and the budget has them. */
  take(bytes: number): boolean
  /** `taker` gets its turns as long as it is ready; once it is not, it has to wait again. */
  wait(peer: string, taker: TurnTaker): void
  leave(peer: string, taker: TurnTaker): void
}

export function createFairTurns(budget: TokenBucket, timers: Timers): FairTurns {
  /** Both in the order of their turns. */
  const waiting = new Map<string, Set<TurnTaker>>()
  let cancelTimer: (() => void) | undefined
  let serving = false

  const leave = (peer: string, taker: TurnTaker) => {
    const takers = waiting.get(peer)
    takers?.delete(taker)
    if (takers?.size === 0) waiting.delete(peer)
  }
  const wait = (peer: string, taker: TurnTaker) => {
    const takers = waiting.get(peer) ?? new Set()
    waiting.set(peer, takers.add(taker))
    serve()
  }
  /** Whose turn it is, with the size of its frame; who is not ready has lost its place. */
  const nextTurn = (): { peer: string; taker: TurnTaker; bytes: number } | undefined => {
    for (const [peer, takers] of waiting) {
      for (const taker of takers) {
        const bytes = taker.ready()
        if (bytes !== undefined) return { peer, taker, bytes }
        leave(peer, taker)
      }
    }
    return undefined
  }
  const serve = () => {
    // A frame that is sent may make its queue wait again at once.
    if (serving || cancelTimer !== undefined) return
    serving = true
    for (let turn = nextTurn(); turn !== undefined; turn = nextTurn()) {
      const { peer, taker, bytes } = turn
      if (!budget.take(bytes)) {
        cancelTimer = timers.after(Math.max(1, Math.ceil(budget.waitMs(bytes))), () => {
          cancelTimer = undefined
          serve()
        })
        break
      }
      // To the back, both the queue among its peer's and the peer among the others.
      const takers = waiting.get(peer)
      leave(peer, taker)
      waiting.delete(peer)
      if (takers !== undefined) waiting.set(peer, takers.add(taker))
      taker.sendNext()
    }
    serving = false
  }

  return { take: (bytes) => waiting.size === 0 && budget.take(bytes), wait, leave }
}
