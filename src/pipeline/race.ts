import { LlmNodeError } from '../base/errors.ts'

/** Two ways to one result, the second one begun when the first is late. */
export interface RaceOptions<T> {
  /** After so many ms; undefined: there is no second way. */
  readonly lateMs: number | undefined
  /** Begins the second way; undefined: there is none after all. Rejects when it fails. */
  readonly second: () => Promise<T | undefined>
  /** After so many ms without a result it is over; undefined: never. */
  readonly limitMs: number | undefined
}

/** The first result of the two. Throws the first way's error when both fail, and HOP_TIMEOUT at the limit. */
export async function race<T>(first: Promise<T>, { lateMs, second, limitMs }: RaceOptions<T>): Promise<T> {
  if (lateMs === undefined && limitMs === undefined) return first
  const timers: NodeJS.Timeout[] = []
  const after = (ms: number) => new Promise<void>((resolve) => timers.push(setTimeout(resolve, ms)))
  const contenders: Promise<T>[] = [first]
  if (lateMs !== undefined) contenders.push(secondAfter(first, after(lateMs), second))
  if (limitMs !== undefined) {
    const limit = after(limitMs).then(() => {
      throw new LlmNodeError('HOP_TIMEOUT', `No token came within ${limitMs} ms.`, {
        hint: 'Ask again, or allow more time.',
      })
    })
    limit.catch(() => {})
    contenders.splice(0, contenders.length, Promise.race([anyOf(contenders), limit]))
  }
  try {
    return await anyOf(contenders)
  } finally {
    for (const timer of timers) clearTimeout(timer)
  }
}

async function secondAfter<T>(
  first: Promise<T>,
  late: Promise<void>,
  second: () => Promise<T | undefined>,
): Promise<T> {
  const state = { settled: false }
  const settled = first.then(
    () => {
      state.settled = true
    },
    () => {
      state.settled = true
    },
  )
  await Promise.race([late, settled])
  // A failure is for failover, which blames somebody.
  if (state.settled) return first
  return (await second()) ?? first
}

/** The first that succeeds; when all fail, the error of the first in the list. */
async function anyOf<T>(all: readonly Promise<T>[]): Promise<T> {
  try {
    return await Promise.any(all)
  } catch (thrown) {
    throw thrown instanceof AggregateError ? thrown.errors[0] : thrown
  }
}
