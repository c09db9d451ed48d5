import { isLlmNodeError, LlmNodeError } from '../base/errors.ts'
import { clashOf, type PeerPlace } from '../coverage/path.ts'

/** Where a hop is reached, from its signed contact record. */
export interface HopContact {
  readonly addressKey: Uint8Array
  readonly onionKey: Uint8Array
  readonly peerId: string
  readonly addrs: readonly string[]
}

/** What the profiles go by. */
export interface Privacy {
  /** Relays for the ends of a circuit that are there now (coverage/guards.ts); `computing`: also those that hold layers. */
  guards(options: { computing: boolean }): readonly PeerPlace[]
  placeOf(address: string): PeerPlace
  /** Addresses that may compute under `trusted`. */
  readonly trusted: ReadonlySet<string>
  /** The user allows hops of one family or network on one circuit. */
  readonly mayShare: boolean
  /** Whether this relay is about to leave. */
  isLeaving?(address: string): boolean
  /** Rings keep a steady beat of so many ms, and nothing is guessed ahead, since that shows in the size of frames. */
  readonly cadenceMs?: number
}

export interface ContactDeps {
  /** Throws PEER_UNREACHABLE when the record cannot be had. */
  contact(address: string, options: { signal: AbortSignal }): Promise<HopContact>
  /** Without it there are no relays, and nobody is trusted. */
  readonly privacy?: Privacy
}

/**
 * Where the hops of a circuit are reached, in order. `distinct`: no two of them may be one person's. Throws
 * PEER_UNREACHABLE and PEER_REFUSED; `meta.address` says whom the next route leaves out.
 */
export async function contactsOf(
  stops: readonly string[],
  deps: ContactDeps,
  { distinct, signal }: { distinct: boolean; signal: AbortSignal },
): Promise<readonly HopContact[]> {
  const contacts = await Promise.all(stops.map((address) => contactOf(address, deps, signal)))
  // Some records have only come now, and say whose the peers are.
  if (distinct) requireDistinct(stops, deps)
  return contacts
}

async function contactOf(address: string, deps: ContactDeps, signal: AbortSignal): Promise<HopContact> {
  try {
    return await deps.contact(address, { signal })
  } catch (error) {
    if (!isLlmNodeError(error, 'PEER_UNREACHABLE')) throw error
    const { message, hint, meta, cause } = error
    const details = { ...(hint === undefined ? {} : { hint }), meta: { ...meta, address }, cause }
    throw new LlmNodeError('PEER_UNREACHABLE', message, details)
  }
}

function requireDistinct(stops: readonly string[], { privacy }: ContactDeps): void {
  if (privacy === undefined) return
  const clash = clashOf(
    stops.map((address) => privacy.placeOf(address)),
    privacy,
  )
  if (clash === undefined) return
  throw new LlmNodeError('PEER_REFUSED', 'Two hops of the circuit belong to one person or network.', {
    hint: 'Try again: another route is taken.',
    meta: { address: stops[clash[1]] ?? '' },
  })
}
