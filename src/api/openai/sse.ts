import { utf8 } from '../../base/bytes.ts'
import { apiLimits } from '../../base/limits.ts'

/** One event with JSON in it, as OpenAI writes them. */
export const dataLine = (value: unknown) => `data: ${JSON.stringify(value)}\n\n`
export const doneLine = 'data: [DONE]\n\n'

/**
 * An event stream of `lines`. The next line is asked for only when the one before was taken, so a slow reader slows the
 * source; one that takes nothing for `unreadMs` is given up. `stop` is called when the stream ends, whichever way, and
 * may be called again. `lines` never throws.
 */
export function eventStream(
  lines: AsyncIterable<string>,
  { stop, unreadMs = apiLimits.unreadMs }: { stop: () => void; unreadMs?: number },
): Response {
  const iterator = lines[Symbol.asyncIterator]()
  let unread: NodeJS.Timeout | undefined
  const end = async () => {
    clearTimeout(unread)
    stop()
    await iterator.return?.()
  }
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        clearTimeout(unread)
        const next = await iterator.next()
        if (next.done) {
          stop()
          return controller.close()
        }
        controller.enqueue(utf8(next.value))
        unread = setTimeout(() => {
          controller.error(new Error('The stream is not being read.'))
          void end()
        }, unreadMs)
      },
      cancel: end,
    },
    { highWaterMark: 0 },
  )
  return new Response(body, {
    headers: { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-cache' },
  })
}
