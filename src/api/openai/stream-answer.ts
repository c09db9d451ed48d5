import { apiLimits } from '../../base/limits.ts'
import type { ApiContext } from '../caller.ts'
import { sendOpenAiError, toOpenAiError } from './errors.ts'
import type { OpenAiParts, Visit } from './parts.ts'
import { readAhead } from './read-ahead.ts'
import { dataLine, eventStream } from './sse.ts'

interface Answered {
  readonly c: ApiContext
  readonly parts: OpenAiParts
  readonly visited: Visit
}

/** An answer as an event stream. What `lines` throws becomes its last event; however it ends, the visit does too. */
export function streamAnswer(answered: Answered, lines: AsyncIterable<string>): Response {
  return eventStream(readAhead(withErrorLine(answered, lines), apiLimits.linesAhead), {
    stop: () => void answered.visited.leave(),
  })
}

/** An answer in one piece. When it breaks off, what had come of it comes with the error. */
export async function wholeAnswer({ c, parts, visited }: Answered, read: () => Promise<object>): Promise<Response> {
  try {
    return c.json(await read())
  } catch (thrown) {
    const { interrupted } = visited.opened
    if (interrupted === undefined) throw thrown
    parts.logger.warn({ err: thrown, requestId: c.var.requestId }, 'an answer broke off')
    return sendOpenAiError(c, thrown, interrupted)
  } finally {
    await visited.leave()
  }
}

async function* withErrorLine({ c, parts, visited }: Answered, lines: AsyncIterable<string>): AsyncGenerator<string> {
  try {
    yield* lines
  } catch (thrown) {
    parts.logger.warn({ err: thrown, requestId: c.var.requestId }, 'an answer broke off')
    yield dataLine(toOpenAiError(thrown, visited.opened.interrupted).body)
  } finally {
    await visited.leave()
  }
}
