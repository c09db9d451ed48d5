import type { PingBody } from '../api/types.ts'
import { toHex } from '../base/bytes.ts'
import { LlmNodeError } from '../base/errors.ts'
import type { SwarmContact, SwarmView } from '../coverage/announce.ts'
import type { SwarmPeer } from '../coverage/swarm-peers.ts'
import type { AddressHint } from '../p2p/address.ts'
import type { PeerNode } from '../p2p/peer-node.ts'

const ROUND_TRIPS = 3
/** One attempt to find where an address is. */
const FIND_MS = 4_000
/** After connecting, the peer's advert comes within a round trip or two. */
const ADVERT_MS = 1_500

export interface FindParts {
  readonly peer: Pick<PeerNode, 'meet'>
  readonly swarm: Pick<SwarmView, 'contact' | 'book' | 'nextChange'>
}

interface PingParts {
  readonly peer: Pick<PeerNode, 'self' | 'meet' | 'connect' | 'connectionTo' | 'ping'>
  readonly swarm: Pick<SwarmView, 'contact' | 'book' | 'peers' | 'nextChange'>
}

/**
 * Reaches the node of an `.llm` address: by its contact record, which adverts bring along and peers are asked for, or
 * at a hint, whose record of itself is then checked. Throws PEER_UNREACHABLE, BAD_INPUT (this node itself), ABORTED.
 */
export async function pingAddress(
  parts: PingParts,
  hint: AddressHint,
  options: { signal: AbortSignal; withinMs: number },
): Promise<PingBody> {
  const { peer, swarm } = parts
  const { signal } = options
  const { contact, foundBy } = await findPeer(parts, hint, options)
  if (contact.peerId === peer.self.peerId) throw new LlmNodeError('BAD_INPUT', 'This is the address of this node.')
  await peer.connect(contact, { signal })
  const rttMs: number[] = []
  for (let i = 0; i < ROUND_TRIPS; i++) rttMs.push(await peer.ping(contact.peerId, { signal }))
  const connection = peer.connectionTo(contact.peerId)
  const advert = await advertOf(swarm, hint.address, signal)
  return {
    address: hint.address,
    peerId: contact.peerId,
    foundBy,
    path: connection?.transport === 'relay' ? 'relay' : 'direct',
    transport: connection?.transport ?? 'tcp',
    addr: connection?.addr ?? '',
    rttMs,
    state: advert?.state ?? null,
    version: advert?.version ?? null,
    reachability: advert?.reachability ?? null,
    serving: (advert?.serving ?? []).map(({ modelId, recipe, span }) => ({ modelId: toHex(modelId), recipe, span })),
  }
}

interface Found {
  readonly contact: SwarmContact
  readonly foundBy: PingBody['foundBy']
}

/** Again with every change of what is known: a node that has just come meets its peers one after the other. */
export async function findPeer(
  parts: FindParts,
  hint: AddressHint,
  { signal, withinMs }: { signal: AbortSignal; withinMs: number },
): Promise<Found> {
  const deadline = AbortSignal.timeout(withinMs)
  for (;;) {
    const changed = parts.swarm.nextChange(AbortSignal.any([signal, deadline]))
    try {
      return await findOnce(parts, hint, AbortSignal.any([signal, AbortSignal.timeout(FIND_MS)]))
    } catch (error) {
      if (signal.aborted) throw new LlmNodeError('ABORTED', 'Stopped on request.')
      if (deadline.aborted) throw error
      await changed
    }
  }
}

async function findOnce({ peer, swarm }: FindParts, hint: AddressHint, signal: AbortSignal): Promise<Found> {
  const known = swarm.contact(hint.address, { signal }).then((contact): Found => ({ contact, foundBy: 'known' }))
  const hinted = hint.addrs.map(async (addr): Promise<Found> => {
    const peerId = await peer.meet(addr, { signal })
    const { record } = await swarm.book.find(hint.addressKey, { signal, ask: [peerId] })
    return { contact: { ...record }, foundBy: 'hint' }
  })
  try {
    return await Promise.any([known, ...hinted])
  } catch (cause) {
    throw await known.catch((error) => error ?? cause)
  }
}

async function advertOf(
  swarm: PingParts['swarm'],
  address: string,
  signal: AbortSignal,
): Promise<SwarmPeer | undefined> {
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(ADVERT_MS)])
  for (;;) {
    const found = swarm.peers().find((peer) => peer.address === address)
    if (found !== undefined || deadline.aborted) return found
    await swarm.nextChange(deadline)
  }
}
