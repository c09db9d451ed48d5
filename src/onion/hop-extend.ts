import { LlmNodeError } from '../base/errors.ts'
import { dialTarget } from './dial-rules.ts'
import { COMMAND, decodeControl, encodeControl } from './frames.ts'
import { CREATED_BYTES } from './handshake-messages.ts'
import type { HopContext } from './hop-context.ts'
import type { ExtendBody } from './ops.ts'
import type { FrameLink } from './ports.ts'

/** What the circuit does with its successor's link. */
export interface SuccessorHandlers {
  /** EXTEND has succeeded. `created`: Y | AUTH | C2, not checked: only the entry can. */
  onCreated(link: FrameLink, created: Uint8Array): void
  /** Only after `onCreated`. */
  onFrame(frame: Uint8Array): void
  onEnd(): void
}

/**
 * Opens a stream to the target, passes CREATE on and waits for CREATED. Rejects when the rules forbid the dial, when the
 * peer is not reached or proven, when it answers anything else, and after `createMs`: the entry waits a little longer.
 */
export async function extendCircuit(
  context: HopContext,
  body: ExtendBody,
  options: { predecessorIsLocal: boolean; signal: AbortSignal; handlers: SuccessorHandlers },
): Promise<void> {
  const { transport, limits, timers } = context
  if (body.target.peerId === transport.self.peerId) throw refused('The next hop is this node itself.')
  const target = dialTarget(body.target, {
    predecessorIsLocal: options.predecessorIsLocal,
    lan: context.options.lan,
    isConnected: (peerId) => transport.isConnected(peerId),
  })
  if (target === null) throw refused('The next hop has no address that may be dialled.')
  const timeout = new AbortController()
  const cancelTimer = timers.after(limits.createMs, () => timeout.abort())
  const signal = AbortSignal.any([options.signal, timeout.signal])
  try {
    const link = await transport.open(target, { signal })
    if (signal.aborted || link.remotePeer !== target.peerId) {
      link.abort('not wanted')
      throw refused('The next hop is not the peer that was asked for.')
    }
    await exchangeCreate(link, body.create, signal, options.handlers)
  } finally {
    cancelTimer()
  }
}

function exchangeCreate(
  link: FrameLink,
  create: Uint8Array,
  signal: AbortSignal,
  handlers: SuccessorHandlers,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let state: 'waiting' | 'established' | 'given up' = 'waiting'
    const giveUp = (reason: string) => {
      if (state !== 'waiting') return
      state = 'given up'
      signal.removeEventListener('abort', onAbort)
      link.abort(reason)
      reject(refused(reason))
    }
    const onAbort = () => giveUp('The next hop did not answer in time.')
    signal.addEventListener('abort', onAbort, { once: true })
    link.onFrame((frame) => {
      if (state === 'established') return handlers.onFrame(frame)
      const created = frame[0] === COMMAND.created ? createdBody(frame) : undefined
      if (created === undefined) return giveUp('The next hop did not answer with CREATED.')
      if (state !== 'waiting') return
      // At once and not through the promise: the next frame may come before it is looked at.
      state = 'established'
      signal.removeEventListener('abort', onAbort)
      handlers.onCreated(link, created)
      resolve()
    })
    link.onEnd(() => {
      if (state === 'established') handlers.onEnd()
      else giveUp('The next hop closed the stream.')
    })
    try {
      link.send(encodeControl(COMMAND.create, create))
    } catch {
      giveUp('The next hop closed the stream.')
    }
  })
}

function createdBody(frame: Uint8Array): Uint8Array | undefined {
  try {
    const body = decodeControl(frame)
    return body.length === CREATED_BYTES ? body : undefined
  } catch {
    return undefined
  }
}

function refused(message: string): LlmNodeError {
  return new LlmNodeError('PEER_REFUSED', message)
}
