/**
 * Which neighbours send heartbeats to which (swarm.md §2). Sent to everybody, each heartbeat would reach a node as often
 * as it has neighbours; so each node wants them only from a few, its feeders, and says so in every message.
 */
export interface Feeds {
  join(peerId: string): void
  leave(peerId: string): void
  /** What this node asks of a neighbour: to be sent every heartbeat. */
  wants(peerId: string): boolean
  /** What a neighbour asked of this node in its last message. */
  noteWish(peerId: string, wish: boolean): void
  /** A neighbour that has said nothing yet is fed. */
  isFed(peerId: string): boolean
  /** Keeps as many feeders as a swarm of that size needs. */
  choose(nPeers: number): void
  /** It knew of much that the feeders had not told: it takes the place of one of them. */
  prefer(peerId: string): void
}

/** With two a heartbeat still reaches everybody (each node misses it only if both feeders do); small swarms want speed. */
const FEW = 2
const MANY = 6
/** Peers × feeders: 56 bytes a minute for each. */
const FEEDINGS = 1_500

export function createFeeds(random: () => number): Feeds {
  const neighbours = new Set<string>()
  const feeders = new Set<string>()
  const declined = new Set<string>()
  let count = MANY
  const fill = () => {
    const others = [...neighbours].filter((peerId) => !feeders.has(peerId))
    while (feeders.size < count && others.length > 0) {
      const [peerId] = others.splice(Math.floor(random() * others.length), 1)
      if (peerId !== undefined) feeders.add(peerId)
    }
  }
  const dropOne = () => {
    const peerId = [...feeders][Math.floor(random() * feeders.size)]
    if (peerId !== undefined) feeders.delete(peerId)
  }
  return {
    join(peerId) {
      neighbours.add(peerId)
      fill()
    },
    leave(peerId) {
      neighbours.delete(peerId)
      declined.delete(peerId)
      if (feeders.delete(peerId)) fill()
    },
    wants: (peerId) => feeders.has(peerId),
    noteWish(peerId, wish) {
      if (wish || !neighbours.has(peerId)) declined.delete(peerId)
      else declined.add(peerId)
    },
    isFed: (peerId) => !declined.has(peerId),
    choose(nPeers) {
      count = Math.max(FEW, Math.min(MANY, Math.round(FEEDINGS / Math.max(1, nPeers))))
      while (feeders.size > count) dropOne()
      fill()
    },
    prefer(peerId) {
      if (!neighbours.has(peerId) || feeders.has(peerId)) return
      if (feeders.size >= count) dropOne()
      feeders.add(peerId)
    },
  }
}
