import { coverageLimits } from '../base/limits.ts'
import { type PeerPlace, sameHands } from './path.ts'

/** A relay that this node uses at the ends of its circuits. */
export interface Guard {
  /** `.llm` address. */
  readonly address: string
  /** Unix ms when it was chosen. */
  readonly sinceMs: number
}

/** A node that forwards for others, as its advert says. */
export interface Relay extends PeerPlace {
  /** It holds layers, too: taken last, for it may be needed to compute. */
  readonly computes: boolean
}

/**
 * The guards to keep from now on: few and for long, so that whoever runs relays to watch rarely gets a turn (docs/protocol.md).
 * One that is away keeps its place; others are taken only while fewer than `guardsInUse` of the kept ones are there.
 * Pure; `random` gives [0, 1).
 */
export function keepGuards(
  kept: readonly Guard[],
  relays: readonly Relay[],
  options: { nowMs: number; random: () => number; mayShare: boolean },
): readonly Guard[] {
  const { nowMs, random } = options
  const byAddress = new Map(relays.map((relay) => [relay.address, relay]))
  // One from the future was written under a wrong clock: it would stay forever.
  const guards = kept.filter(({ sinceMs }) => sinceMs <= nowMs && nowMs - sinceMs < coverageLimits.guardMs)
  const present = guards.flatMap(({ address }) => byAddress.get(address) ?? [])
  const free = relays.filter(({ address }) => !guards.some((guard) => guard.address === address))
  const order = free.map((relay) => ({ relay, key: random() + (relay.computes ? 1 : 0) }))
  for (const { relay } of order.sort((a, b) => a.key - b.key)) {
    if (present.length >= coverageLimits.guardsInUse || guards.length >= coverageLimits.guardsKept) break
    if (present.some((other) => sameHands(other, relay, options))) continue
    guards.push({ address: relay.address, sinceMs: nowMs })
    present.push(relay)
  }
  return guards
}

/** The guards that are there, in the order in which they were chosen. */
export function presentGuards(guards: readonly Guard[], relays: readonly Relay[]): readonly Relay[] {
  const there = guards.flatMap(({ address }) => relays.find((relay) => relay.address === address) ?? [])
  return there.slice(0, coverageLimits.guardsInUse)
}
