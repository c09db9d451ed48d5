import { multiaddr } from '@multiformats/multiaddr'
import { equalBytes } from '../base/bytes.ts'
import { LlmNodeError } from '../base/errors.ts'

/**
 * The text of a multiaddr in binary form. Only the one canonical spelling: equal addresses have equal bytes, and a name
 * with a slash in it cannot pass for other components once it is text. Throws BAD_RECORD.
 */
export function multiaddrFromBytes(bytes: Uint8Array): string {
  try {
    const addr = multiaddr(bytes)
    const text = addr.toString()
    if (addr.getComponents().length > 0 && equalBytes(multiaddr(text).bytes, bytes)) return text
  } catch {
    // Falls through to the one message.
  }
  throw new LlmNodeError('BAD_RECORD', 'An address is no multiaddr.')
}
