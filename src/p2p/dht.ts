import type { KadDHT } from '@libp2p/kad-dht'
import { CID } from 'multiformats/cid'
import * as raw from 'multiformats/codecs/raw'
import { create as createDigest } from 'multiformats/hashes/digest'
import { utf8 } from '../base/bytes.ts'
import { p2pLimits } from '../base/limits.ts'
import { encodeAddress } from './address.ts'
import { type RecordCheck, recordKeyText } from './dht-service.ts'
import type { DhtStore } from './dht-store.ts'
import type { PeerTarget } from './peer-addrs.ts'

/** Contact records and meeting points that the whole network keeps together; LAN and WAN are asked at the same time. */
export interface Dht {
  /** Every record that comes, put here by others or found, goes through this check, which keeps it or throws. */
  onRecord(check: RecordCheck): void
  /** Puts a record where it is looked for. Resolves with how many peers have it; never rejects. */
  put(addressKey: Uint8Array, value: Uint8Array, options: { signal: AbortSignal }): Promise<number>
  /** Looks for records of an address until `enough`. What is found goes to the check. Never rejects. */
  find(addressKey: Uint8Array, options: { signal: AbortSignal; enough(): boolean }): Promise<void>
  /** Says that this node belongs to a meeting point (32 bytes). How many peers have noted it; never rejects. */
  provide(point: Uint8Array, options: { signal: AbortSignal }): Promise<number>
  /** Stops repeating that. */
  leave(point: Uint8Array): Promise<void>
  /** Who belongs to a meeting point, without this node; at most p2pLimits.dhtFound. Never rejects. */
  members(point: Uint8Array, options: { signal: AbortSignal }): Promise<PeerTarget[]>
  /** What this node keeps for others, LAN and WAN together. */
  kept(): { readonly records: number; readonly recordBytes: number; readonly providers: number }
}

const SHA2_256 = 0x12

export function createDht(
  dhts: readonly KadDHT[],
  deps: { self: string; stores: readonly DhtStore[]; onRecord: (check: RecordCheck) => void },
): Dht {
  const sum = (of: (store: DhtStore) => number) => deps.stores.reduce((total, store) => total + of(store), 0)
  const each = async (signal: AbortSignal, work: (dht: KadDHT, limited: AbortSignal) => Promise<void>) => {
    const limited = AbortSignal.any([signal, AbortSignal.timeout(p2pLimits.dhtQueryMs)])
    await Promise.allSettled(dhts.map((dht) => work(dht, limited)))
  }
  return {
    onRecord: deps.onRecord,
    async put(addressKey, value, { signal }) {
      const takers = new Set<string>()
      await each(signal, async (dht, limited) => {
        for await (const event of dht.put(recordKeyOf(addressKey), value, { signal: limited })) {
          if (event.name === 'PEER_RESPONSE' && event.messageName === 'PUT_VALUE') takers.add(event.from.toString())
        }
      })
      return takers.size
    },
    async find(addressKey, { signal, enough }) {
      const done = new AbortController()
      await each(AbortSignal.any([signal, done.signal]), async (dht, limited) => {
        for await (const _event of dht.get(recordKeyOf(addressKey), { signal: limited })) {
          if (enough()) done.abort()
        }
      })
    },
    async provide(point, { signal }) {
      const takers = new Set<string>()
      await each(signal, async (dht, limited) => {
        for await (const event of dht.provide(cidOf(point), { signal: limited })) {
          if (event.name === 'PEER_RESPONSE' && event.messageName === 'ADD_PROVIDER') takers.add(event.from.toString())
        }
      })
      return takers.size
    },
    async leave(point) {
      await Promise.allSettled(dhts.map((dht) => dht.cancelReprovide(cidOf(point))))
    },
    async members(point, { signal }) {
      const found = new Map<string, PeerTarget>()
      await each(signal, async (dht, limited) => {
        for await (const event of dht.findProviders(cidOf(point), { signal: limited })) {
          if (event.name !== 'PROVIDER') continue
          for (const { id, multiaddrs } of event.providers) {
            const peerId = id.toString()
            if (peerId === deps.self || multiaddrs.length === 0 || found.size >= p2pLimits.dhtFound) continue
            found.set(peerId, { peerId, addrs: multiaddrs.slice(0, p2pLimits.addressesPerPeer).map(String) })
          }
        }
      })
      return [...found.values()]
    },
    kept: () => ({
      records: sum((store) => store.nRecords),
      recordBytes: sum((store) => store.recordBytes),
      providers: sum((store) => store.nProviders),
    }),
  }
}

/** Pauses before the next attempt: a node that has just come may know nobody yet. */
const AGAIN_MS = [2_000, 5_000, 15_000, 60_000]

/** Repeats `task` until somebody has taken what it gives, or the signal fires. */
export async function untilTaken(task: () => Promise<number>, signal: AbortSignal): Promise<void> {
  for (let attempt = 0; !signal.aborted; attempt++) {
    if ((await task()) > 0) return
    await pause(AGAIN_MS[Math.min(attempt, AGAIN_MS.length - 1)] ?? 0, signal)
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    timer.unref()
    if (signal.aborted) done()
    else signal.addEventListener('abort', done)
  })
}

function recordKeyOf(addressKey: Uint8Array): Uint8Array {
  return utf8(recordKeyText(encodeAddress(addressKey)))
}

function cidOf(point: Uint8Array): CID {
  return CID.createV1(raw.code, createDigest(SHA2_256, point))
}
