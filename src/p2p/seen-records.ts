import { createHash } from 'node:crypto'
import { z } from 'zod'
import { toHex } from '../base/bytes.ts'
import { p2pLimits } from '../base/limits.ts'

/** What a record is, compared with the newest one known of its address. */
export type SeenVerdict =
  /** Higher sequence than any before. */
  | 'new'
  /** Byte-identical to the newest one known. */
  | 'same'
  /** Lower sequence: a rollback. */
  | 'old'
  /** Same sequence, other bytes: the address has signed two truths. */
  | 'conflict'

/** Remembers the highest sequence of each address, so that nobody is taken back to an older record (swarm.md §2). */
export interface SeenRecords {
  /** Pure look. */
  compare(addressKey: Uint8Array, sequence: number, bytes: Uint8Array): SeenVerdict
  /** Remembers a record that was found valid. Call only after 'new'. `forgetMs`: Unix ms, 12 h after its expiry. */
  remember(record: { addressKey: Uint8Array; sequence: number; bytes: Uint8Array; forgetMs: number }): void
  /** Drops what may be forgotten. */
  expire(nowMs: number): void
  readonly size: number
  dump(): SeenEntry[]
}

export const seenEntrySchema = z.strictObject({
  key: z.string().regex(/^[0-9a-f]{64}$/),
  sequence: z.number().int().nonnegative(),
  hash: z.string().regex(/^[0-9a-f]{64}$/),
  forgetMs: z.number().int().nonnegative(),
})
export type SeenEntry = z.infer<typeof seenEntrySchema>

/** At most `cap` addresses; above it the one that may be forgotten first goes. */
export function createSeenRecords(
  entries: readonly SeenEntry[] = [],
  cap: number = p2pLimits.seenRecords,
): SeenRecords {
  const seen = new Map<string, SeenEntry>()
  for (const entry of entries.slice(0, cap)) seen.set(entry.key, entry)
  const makeRoom = (): void => {
    let first: SeenEntry | undefined
    for (const entry of seen.values()) if (first === undefined || entry.forgetMs < first.forgetMs) first = entry
    if (first !== undefined) seen.delete(first.key)
  }
  return {
    compare(addressKey, sequence, bytes) {
      const entry = seen.get(toHex(addressKey))
      if (entry === undefined || sequence > entry.sequence) return 'new'
      if (sequence < entry.sequence) return 'old'
      return entry.hash === hashOf(bytes) ? 'same' : 'conflict'
    },
    remember({ addressKey, sequence, bytes, forgetMs }) {
      const key = toHex(addressKey)
      if (!seen.has(key) && seen.size >= cap) makeRoom()
      seen.set(key, { key, sequence, hash: hashOf(bytes), forgetMs })
    },
    expire(nowMs) {
      for (const [key, entry] of seen) if (entry.forgetMs <= nowMs) seen.delete(key)
    },
    get size() {
      return seen.size
    },
    dump: () => [...seen.values()],
  }
}

function hashOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}
