import { sleep } from '../../base/sleep.ts'

/** Nobody sees texts that come faster than this one by one, and each piece costs its sender and its reader 0.3 ms. */
const PIECE_MS = 8

/**
 * The same lines, read up to `most` ahead of whoever takes them; those that wait come together as one text. A token is
 * computed while the one before is being sent, and a connection that is busy, or has just had some, gets several at once.
 * What the source throws comes after its last line.
 */
export async function* readAhead(lines: AsyncIterable<string>, most: number): AsyncGenerator<string> {
  let lastMs = Number.NEGATIVE_INFINITY
  const iterator = lines[Symbol.asyncIterator]()
  const source: { over: boolean; failure?: { readonly error: unknown } } = { over: false }
  let waiting: string[] = []
  let isLeft = false
  let wakeReader = () => {}
  let wakeSource = () => {}
  const ended = new AbortController()
  const pump = async () => {
    try {
      while (!isLeft) {
        if (waiting.length >= most) await new Promise<void>((resolve) => (wakeSource = resolve))
        else {
          const next = await iterator.next()
          if (next.done) return
          waiting.push(next.value)
          wakeReader()
        }
      }
    } catch (error) {
      source.failure = { error }
    } finally {
      source.over = true
      ended.abort()
      wakeReader()
    }
  }
  void pump()
  try {
    for (;;) {
      if (waiting.length > 0) {
        const leftMs = lastMs + PIECE_MS - performance.now()
        if (leftMs > 0) await sleep(leftMs, ended.signal)
        lastMs = performance.now()
        const text = waiting.length === 1 ? (waiting[0] ?? '') : waiting.join('')
        waiting = []
        wakeSource()
        yield text
      } else if (!source.over) await new Promise<void>((resolve) => (wakeReader = resolve))
      else if (source.failure !== undefined) throw source.failure.error
      else return
    }
  } finally {
    isLeft = true
    wakeSource()
    await iterator.return?.()
  }
}
