import { createHash } from 'node:crypto'
import { concatBytes, createByteReader, createByteWriter, equalBytes, utf8 } from '../base/bytes.ts'
import { LlmNodeError } from '../base/errors.ts'
import { coverageLimits } from '../base/limits.ts'

/**
 * Signs of life that nobody can forge (swarm.md §2): an advert carries the end of a hash chain, and each minute its owner
 * reveals the link before. Hashing it `index` times gives the end. 26 bytes instead of a signature.
 */
export interface Heartbeat {
  /** First 8 bytes of the SHA-256 of the advert. */
  readonly advertId: Uint8Array
  /** How many links from the end, from 1. */
  readonly index: number
  /** 16 bytes. */
  readonly link: Uint8Array
}

export const LINK_BYTES = 16
export const ADVERT_ID_BYTES = 8
const HEARTBEAT_BYTES = ADVERT_ID_BYTES + 2 + LINK_BYTES

/** Whose chain it is: in every hash, so that no work on one chain helps against another. */
export interface ChainOwner {
  readonly addressKey: Uint8Array
  readonly sequence: number
}

/** The chain of one advert from a random start: `links[0]` is its end, `links[i]` what heartbeat i reveals. */
export function createChain(owner: ChainOwner, start: Uint8Array): readonly Uint8Array[] {
  const links: Uint8Array[] = [start]
  for (let i = 0; i < coverageLimits.chainLinks; i++) links.push(nextLink(owner, links[i] ?? start))
  return links.reverse()
}

/** True when hashing `link` from `index` down to `known.index` gives the known link. At most chainLinks hashes. */
export function provesLife(
  owner: ChainOwner,
  known: { readonly index: number; readonly link: Uint8Array },
  heartbeat: Pick<Heartbeat, 'index' | 'link'>,
): boolean {
  if (heartbeat.index <= known.index || heartbeat.index > coverageLimits.chainLinks) return false
  let link = heartbeat.link
  for (let index = heartbeat.index; index > known.index; index--) link = nextLink(owner, link)
  return equalBytes(link, known.link)
}

export function encodeHeartbeat(heartbeat: Heartbeat): Uint8Array<ArrayBuffer> {
  return createByteWriter().bytes(heartbeat.advertId).u16(heartbeat.index).bytes(heartbeat.link).finish()
}

/** Throws BAD_RECORD. */
export function decodeHeartbeat(bytes: Uint8Array): Heartbeat {
  if (bytes.length !== HEARTBEAT_BYTES) {
    throw new LlmNodeError('BAD_RECORD', `A heartbeat has ${HEARTBEAT_BYTES} bytes, not ${bytes.length}.`)
  }
  const reader = createByteReader(bytes, 'Heartbeat')
  return {
    advertId: reader.bytes(ADVERT_ID_BYTES, 'advert id'),
    index: reader.u16('index'),
    link: reader.bytes(LINK_BYTES, 'link'),
  }
}

function nextLink(owner: ChainOwner, link: Uint8Array): Uint8Array {
  const message = concatBytes(
    utf8('llm beat v1'),
    owner.addressKey,
    createByteWriter().u64(owner.sequence).finish(),
    link,
  )
  return Uint8Array.from(createHash('sha256').update(message).digest().subarray(0, LINK_BYTES))
}
