import { badFrame } from './frames.ts'
import { type CircuitKeys, openCreate, readCreate } from './handshake.ts'
import {
  type ClientMessage,
  CREATE_BYTES,
  decodeClientMessage,
  encodeServerMessage,
  refusal,
  type ServerMessage,
} from './handshake-messages.ts'
import type { HopContext, RingEnd } from './hop-context.ts'
import type { AnswerOffer, FrameLink } from './ports.ts'

const U16_MAX = 0xffff

export interface Admission {
  /** Y | AUTH | C2. */
  readonly created: Uint8Array
  /** Only after an OK. */
  readonly accepted?: {
    readonly keys: CircuitKeys
    readonly message: ClientMessage
    readonly grant: ServerMessage
    /** This node's own ring is being closed. */
    readonly ringEnd: RingEnd | undefined
  }
}

/**
 * Answers a CREATE: OK, BUSY or REJECT. Reserves nothing. Throws when the stream has to be closed without an answer: not
 * authentic, not well-formed, or too many refusals.
 */
export function answerCreate(context: HopContext, link: FrameLink, body: Uint8Array): Admission {
  if (body.length !== CREATE_BYTES) throw badFrame('CREATE')
  const { options, crypto } = context
  const { id, x } = readCreate(body)
  const ringEnd = context.takeRingEnd(id, x, link.remotePeer)
  const trusted = context.isTrusted(link.remotePeer, link.remoteIsLocal)
  const source = { peer: link.remotePeer, subnet: link.remoteSubnet, trusted }
  // Before any computing: what is refused for its rate must stay cheap.
  const admitted = ringEnd !== undefined || context.admitCreate(source)
  if (!admitted && !context.admitRefusal()) throw badFrame('rate')
  const own = ringEnd ?? {
    addressKey: options.identity.addressKey,
    onionKeys: options.identity.onionKeys(context.clock.nowMs()),
  }
  const opened = openCreate(body, { ...own, network: options.network }, crypto)
  try {
    const message = decodeClientMessage(opened.clientMessage)
    const grant = admitted ? decide(context, message, { ringEnd, peer: link.remotePeer, trusted }) : refusal('BUSY')
    const { created, keys } = opened.answer(encodeServerMessage(grant))
    if (grant.status === 'OK') return { created, accepted: { keys, message, grant, ringEnd } }
    keys.forward.wipe()
    keys.backward.wipe()
    keys.exporter.wipe()
    return { created }
  } catch (error) {
    opened.wipe()
    throw error
  }
}

function decide(
  context: HopContext,
  message: ClientMessage,
  asker: { ringEnd: RingEnd | undefined; peer: string; trusted: boolean },
): ServerMessage {
  const { limits, table } = context
  const lifeS = Math.min(limits.lifeS, message.lifetimeS, U16_MAX)
  const ours = {
    status: 'OK' as const,
    numericsClass: new Uint8Array(32),
    maxContext: 0,
    idleS: Math.min(limits.idleS, U16_MAX),
    lifeS,
    queueBytes: limits.queueBytes,
  }
  if (asker.ringEnd !== undefined) return message.role === 'relay' ? ours : refusal('REJECT')
  if (table.count('half-open') >= limits.halfOpen) return refusal('BUSY')
  if (message.role === 'relay') {
    if (!context.options.relay()) return refusal('REJECT')
    const full = table.count('relay') >= limits.relayCircuits
    const tooMany = !asker.trusted && table.count('relay', asker.peer) >= limits.relayPeerCircuits
    return full || tooMany ? refusal('BUSY') : ours
  }
  if (message.role === 'answer') return withOffer(ours, context.answers?.offer() ?? null)
  if (message.role !== 'compute' || context.compute === null) return refusal('REJECT')
  const offer = context.compute.offer(message)
  if (offer === null) return refusal('REJECT')
  if (offer === 'busy') return refusal('BUSY')
  return {
    status: 'OK',
    numericsClass: offer.numericsClass,
    maxContext: Math.min(offer.maxContext, message.maxContext),
    idleS: Math.min(offer.idleS, ours.idleS),
    lifeS: Math.min(offer.lifeS, lifeS),
    queueBytes: Math.min(offer.queueBytes, limits.queueBytes),
  }
}

function withOffer(ours: ServerMessage, offer: AnswerOffer | 'busy' | null): ServerMessage {
  if (offer === null) return refusal('REJECT')
  if (offer === 'busy') return refusal('BUSY')
  return {
    ...ours,
    idleS: Math.min(offer.idleS, ours.idleS),
    lifeS: Math.min(offer.lifeS, ours.lifeS),
    queueBytes: Math.min(offer.queueBytes, ours.queueBytes),
  }
}
