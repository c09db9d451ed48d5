import { decodeAddress, encodeAddress, safetyNumber } from '../p2p/address.ts'
import { loadOrCreateIdentity } from '../p2p/identity.ts'
import { type Home, prepareHome } from './home.ts'

export interface IdentityDescription {
  readonly address: string
  /** Six groups to compare aloud. */
  readonly safetyNumber: string
  /** Null for the address of somebody else. */
  readonly peerId: string | null
}

/** Of this home (made when it has none yet), or of `address` after checking it. Throws BAD_ADDRESS, HOME_UNUSABLE. */
export async function describeIdentity(home: Home, address: string | undefined): Promise<IdentityDescription> {
  if (address !== undefined) {
    const key = decodeAddress(address)
    return { address: encodeAddress(key), safetyNumber: safetyNumber(key), peerId: null }
  }
  await prepareHome(home)
  const identity = await loadOrCreateIdentity(home.keysFolder, { nowMs: Date.now() })
  return { address: identity.address, safetyNumber: safetyNumber(identity.addressKey), peerId: identity.peerId }
}
