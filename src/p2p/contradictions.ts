import { z } from 'zod'
import { p2pLimits } from '../base/limits.ts'

/**
 * An address has signed two records with one number (swarm.md §2). Both are kept, so that anybody can check the signatures;
 * the peer is marked and no more: a home that was copied does the same without malice.
 */
export interface Contradiction {
  readonly sequence: number
  /** The record that came first; null: only its hash was left of it, after a restart. */
  readonly first: Uint8Array | null
  readonly second: Uint8Array
  /** Unix ms of the second one. */
  readonly atMs: number
}

export interface Contradictions {
  /** By address key, in hex. */
  readonly all: ReadonlyMap<string, Contradiction>
  /** Only the first one of an address is kept: it says enough. True when it is that. */
  add(key: string, found: Contradiction): boolean
  /** Forgets what is older than p2pLimits.contradictionMs. */
  expire(nowMs: number): void
  dump(): StoredContradiction[]
}

const record = z.base64().max(2 * p2pLimits.contactRecordBytes)
export const contradictionSchema = z.strictObject({
  key: z.string().regex(/^[0-9a-f]{64}$/),
  sequence: z.int().nonnegative(),
  first: record.nullable(),
  second: record,
  atMs: z.int().nonnegative(),
})
export type StoredContradiction = z.infer<typeof contradictionSchema>

/** At most p2pLimits.contradictions; above that the oldest goes. */
export function createContradictions(entries: readonly StoredContradiction[] = []): Contradictions {
  const all = new Map<string, Contradiction>()
  const add = (key: string, found: Contradiction): boolean => {
    if (all.has(key)) return false
    if (all.size >= p2pLimits.contradictions) all.delete(all.keys().next().value ?? '')
    all.set(key, found)
    return true
  }
  for (const { key, first, second, ...rest } of entries) {
    add(key, { ...rest, first: first === null ? null : fromBase64(first), second: fromBase64(second) })
  }
  return {
    all,
    add,
    expire(nowMs) {
      for (const [key, { atMs }] of all) if (nowMs - atMs >= p2pLimits.contradictionMs) all.delete(key)
    },
    dump: () =>
      [...all].map(([key, { first, second, ...rest }]) => {
        return { key, ...rest, first: first === null ? null : toBase64(first), second: toBase64(second) }
      }),
  }
}

function toBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64')
}

function fromBase64(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text, 'base64'))
}
