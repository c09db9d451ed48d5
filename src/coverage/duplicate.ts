import { isLlmNodeError } from '../base/errors.ts'
import type { Logger } from '../base/logger.ts'
import type { SequenceCounter } from '../p2p/sequence.ts'
import { verifyAdvert, verifyTombstone } from './advert.ts'
import type { GossipItem } from './gossip-messages.ts'

/**
 * Notices that another machine runs with a copy of this home: an advert or a farewell under this node's own address, rightly
 * signed, with a number that this node has not yet given out.
 */
export interface DuplicateWatch {
  /** Something under the own address has come from a neighbour. */
  see(item: Pick<GossipItem, 'kind' | 'bytes'>): void
  readonly found: boolean
}

/** How often it is told that the other one is there: both say theirs again then, and this must come to an end. */
const TELLINGS = 5

/** `onFound`: the first time, and a few more; say the own advert again, so that the other one notices, too. */
export function createDuplicateWatch(
  options: { network: string },
  deps: { sequence: Pick<SequenceCounter, 'last'>; logger: Logger; onFound: () => void },
): DuplicateWatch {
  let times = 0
  return {
    see({ kind, bytes }) {
      const { sequence, logger, onFound } = deps
      // A node that keeps no numbers, and has given none out, cannot know.
      if (sequence.last === 0 || (kind !== 'advert' && kind !== 'tombstone')) return
      // After a farewell nobody counts this node any more: it says its own again, and there is nobody to say his again.
      if (kind === 'advert' && times >= TELLINGS) return
      try {
        const item = kind === 'advert' ? verifyAdvert(bytes, options) : verifyTombstone(bytes, options)
        if (item.sequence <= sequence.last) return
      } catch (error) {
        if (isLlmNodeError(error)) return
        throw error
      }
      if (times++ === 0)
        logger.error('another node runs with a copy of this home: the two take each other’s place; stop one of them')
      onFound()
    },
    get found() {
      return times > 0
    },
  }
}
