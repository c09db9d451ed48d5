import { apiLimits } from '../../base/limits.ts'
import type { ApiContext } from '../caller.ts'
import { toOpenAiError } from './errors.ts'
import type { OpenAiParts, Visit } from './parts.ts'
import { readAhead } from './read-ahead.ts'
import { dataLine, eventStream } from './sse.ts'

interface Streamed {
  readonly c: ApiContext
  readonly parts: OpenAiParts
  readonly visited: Visit
}

/** An answer as an event stream. What `lines` throws becomes its last event; however it ends, the visit does too. */
export function streamAnswer(streamed: Streamed, lines: AsyncIterable<string>): Response {
  return eventStream(readAhead(withErrorLine(streamed, lines), apiLimits.linesAhead), {
    stop: () => void streamed.visited.leave(),
  })
}

async function* withErrorLine({ c, parts, visited }: Streamed, lines: AsyncIterable<string>): AsyncGenerator<string> {
  try {
    yield* lines
  } catch (thrown) {
    parts.logger.warn({ err: thrown, requestId: c.var.requestId }, 'an answer broke off')
    yield dataLine(toOpenAiError(thrown).body)
  } finally {
    await visited.leave()
  }
}
