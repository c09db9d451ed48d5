import { LlmNodeError } from '../base/errors.ts'

let controller: AbortController | undefined

/**
 * Fires at the first Ctrl-C (or SIGTERM), so that work ends in order; the second one ends the process at once.
 * One signal for the whole process.
 */
export function interruptSignal(): AbortSignal {
  if (controller !== undefined) return controller.signal
  const created = new AbortController()
  controller = created
  const onSignal = () => {
    if (created.signal.aborted) process.exit(130)
    created.abort(new LlmNodeError('ABORTED', 'Stopped on request.'))
  }
  process.on('SIGINT', onSignal)
  process.on('SIGTERM', onSignal)
  return created.signal
}

/** Also interrupts when stdin ends: for processes that must not outlive the one that started them. */
export function interruptWithStdin(): void {
  const signal = interruptSignal()
  process.stdin.resume()
  process.stdin.once('end', () => {
    if (!signal.aborted) controller?.abort(new LlmNodeError('ABORTED', 'The starting process has ended.'))
  })
  process.stdin.unref?.()
}
