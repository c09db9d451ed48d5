import type { Clock } from '../base/clock.ts'
import type { Logger } from '../base/logger.ts'
import { decodeAddress } from '../p2p/address.ts'
import type { ContactBook } from '../p2p/contact-book.ts'
import { listContacts } from './contacts.ts'
import type { Home } from './home.ts'

/** Contacts may be added while the node runs, and their records come and go. */
const LOOK_MS = 60_000

/**
 * Whether a PeerId is one of this user's contacts, as their signed records say: they are no strangers to the limits of
 * circuits. Looks again when asked a minute later; until the file is read nobody is.
 */
export function createContactPeers(
  home: Home,
  deps: { book: Pick<ContactBook, 'get'>; clock: Clock; logger: Logger },
): (peerId: string) => boolean {
  const { book, clock, logger } = deps
  let peerIds: ReadonlySet<string> = new Set()
  let lookMs = Number.NEGATIVE_INFINITY
  const look = async (): Promise<void> => {
    const contacts = await listContacts(home)
    peerIds = new Set(contacts.flatMap(({ address }) => book.get(decodeAddress(address))?.record.peerId ?? []))
  }
  const lookAgain = (): void => {
    if (clock.monotonicMs() - lookMs < LOOK_MS) return
    lookMs = clock.monotonicMs()
    look().catch((err: unknown) => logger.warn({ err }, 'the contacts cannot be read: all peers are strangers'))
  }
  lookAgain()
  return (peerId) => {
    lookAgain()
    return peerIds.has(peerId)
  }
}
