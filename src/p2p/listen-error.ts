import { LlmNodeError } from '../base/errors.ts'

/** What kept libp2p from listening, in words: PORT_IN_USE, BAD_CONFIG or INTERNAL. */
export function listenError(error: unknown, listen: readonly string[]): LlmNodeError {
  const text = error instanceof Error ? `${error.message} ${String(error.cause ?? '')}` : String(error)
  if (/EADDRINUSE|in use/i.test(text)) {
    return new LlmNodeError('PORT_IN_USE', `Another program already listens on ${listen.join(' or ')}.`, {
      hint: 'Choose another port with --port, or 0 for any free one.',
      cause: error,
    })
  }
  if (/EADDRNOTAVAIL|EACCES|UnsupportedListenAddress|listened on/i.test(text)) {
    return new LlmNodeError('BAD_CONFIG', `This machine cannot listen on ${listen.join(' or ')}.`, {
      hint: 'Name an address of this machine and a port above 1023.',
      cause: error,
    })
  }
  return new LlmNodeError('INTERNAL', 'The network could not be started.', { cause: error })
}
