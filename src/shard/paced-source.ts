import { waitMs } from './http-get.ts'
import type { ModelSource } from './source.ts'

/**
 * The same source, giving weights at no more than `bytesPerSecond`, all its ranges together. Small files come as fast as
 * they can. A quarter of a second may be made up for after a pause, no more.
 */
export function paceSource(
  source: ModelSource,
  bytesPerSecond: number,
  deps: { nowMs(): number; wait(ms: number, signal: AbortSignal | undefined): Promise<void> } = realDeps,
): ModelSource {
  const slackMs = 250
  /** When all bytes so far have been paid for. */
  let paidMs = Number.NEGATIVE_INFINITY
  const pay = (bytes: number): number => {
    const now = deps.nowMs()
    paidMs = Math.max(paidMs, now - slackMs) + (bytes / bytesPerSecond) * 1_000
    return paidMs - now
  }
  return {
    id: source.id,
    readFile: (file, options) => source.readFile(file, options),
    async openRange(request) {
      const range = await source.openRange(request)
      const chunks = async function* () {
        for await (const chunk of range.chunks) {
          const debtMs = pay(chunk.length)
          if (debtMs > 0) await deps.wait(debtMs, request.signal)
          yield chunk
        }
      }
      return { ...range, chunks: chunks() }
    },
  }
}

const realDeps = { nowMs: () => performance.now(), wait: waitMs }
