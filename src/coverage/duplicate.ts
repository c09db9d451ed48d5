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

export function createDuplicateWatch(
  options: { network: string },
  deps: { sequence: Pick<SequenceCounter, 'last'>; logger: Logger; onFound: () => void },
): DuplicateWatch {
  let found = false
  return {
    see(bytes) {
      const { sequence, logger, onFound } = deps
      // A node that keeps no numbers, and has given none out, cannot know.
      if (found || sequence.last === 0) return
      try {
        if (verifyAdvert(bytes, options).sequence <= sequence.last) return
      } catch (error) {
        if (isLlmNodeError(error)) return
        throw error
      }
      found = true
      logger.error('another node runs with a copy of this home: the two take each other’s place; stop one of them')
      onFound()
    },
    get found() {
      return found
    },
  }
}
