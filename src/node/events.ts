import type { AskEvent } from '../api/types.ts'
import { toLlmNodeError } from '../base/errors.ts'

/** The same events, with a failure as the last one instead of an exception. */
export async function* withErrorEvent(events: AsyncIterable<AskEvent>): AsyncGenerator<AskEvent> {
  try {
    yield* events
  } catch (thrown) {
    const { code, message, hint } = toLlmNodeError(thrown)
    yield { type: 'error', error: { code, message, hint: hint ?? null } }
  }
}
