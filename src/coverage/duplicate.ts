import { isLlmNodeError } from '../base/errors.ts'
import type { Logger } from '../base/logger.ts'
import type { SequenceCounter } from '../p2p/sequence.ts'
import { verifyAdvert } from './advert.ts'

/**
 * Notices that another machine runs with a copy of this home: an advert under this node's own address, rightly signed, with
 * a number that this node has not yet given out.
 */
export interface DuplicateWatch {
  /** An advert under the own address has come from a neighbour. */
  see(bytes: Uint8Array): void
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
    see(bytes) {
      const { sequence, logger, onFound } = deps
      // A node that keeps no numbers, and has given none out, cannot know.
      if (times >= TELLINGS || sequence.last === 0) return
      try {
        if (verifyAdvert(bytes, options).sequence <= sequence.last) return
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
