import type { Span } from '../../../src/base/span.ts'
import { type Assigned, chooseWindow, layerThroughput, minHops } from '../../../src/coverage/assign.ts'
import { decideMove, moveDelayMs } from '../../../src/coverage/rebalance.ts'

export interface SimulatedNode {
  readonly id: string
  /** Layers that fit. */
  readonly fits: number
  readonly msPerLayer: number
  /** To fetch and load one layer. */
  readonly fetchMs: number
}

interface Member extends SimulatedNode {
  /** What its newest advert says. */
  span: Span
  online: boolean
  sinceMs: number
  /** It waits before a move that it has decided. */
  waiting: boolean
  asked: string
  readonly moves: number[]
  /** What each other member knows of it lags behind by the news delay. */
  history: { readonly atMs: number; readonly span: Span | undefined }[]
}

/** The pure decisions of many nodes on a virtual clock; adverts reach each other node after `newsMs` or less. */
export interface Simulation {
  nowMs(): number
  join(node: SimulatedNode, atMs: number): void
  /** The node falls silent; the others notice after `silenceMs`. */
  kill(id: string, atMs: number): void
  /** Runs all events until `untilMs`; `watch` sees the swarm after each. */
  run(untilMs: number, watch?: (nowMs: number) => void): void
  /** What nodes have announced, and what they can serve already. */
  announced(): Assigned[]
  online(): Assigned[]
  movesOf(id: string): readonly number[]
}

export interface SimulationOptions {
  readonly nLayers: number
  readonly maxHops: number
  readonly newsMs: number
  readonly silenceMs: number
  readonly random: () => number
}

/** How often a node looks whether it should move. */
const lookMs = 30_000

export function createSimulation(options: SimulationOptions): Simulation {
  const { nLayers, maxHops, newsMs, silenceMs, random } = options
  const members = new Map<string, Member>()
  const events: { readonly atMs: number; readonly order: number; readonly act: () => void }[] = []
  let nowMs = 0
  let order = 0
  let news = 0
  let lastNewsMs = 0
  const at = (atMs: number, act: () => void) => {
    events.push({ atMs, order: order++, act })
    events.sort((a, b) => a.atMs - b.atMs || a.order - b.order)
  }
  const noteNews = () => {
    news++
    lastNewsMs = nowMs
  }
  const announce = (member: Member, span: Span | undefined, heardAfterMs: number) => {
    member.history.push({ atMs: nowMs + heardAfterMs, span })
    noteNews()
  }
  const assigned = ({ id, span, msPerLayer }: Member): Assigned => ({ id, span, msPerLayer })
  /** The swarm as `self` has heard of it. */
  const view = (self: string): Assigned[] =>
    [...members.values()].flatMap((member) => {
      if (member.id === self) return [assigned(member)]
      const span = member.history.findLast(({ atMs }) => atMs <= nowMs)?.span
      return span === undefined ? [] : [{ id: member.id, span, msPerLayer: member.msPerLayer }]
    })
  const hold = (member: Member, span: Span) => {
    const kept = overlap(member.online ? member.span : undefined, span)
    member.span = span
    member.sinceMs = nowMs
    announce(member, span, newsMs * random())
    const sinceMs = nowMs
    // Layers that are held already need no fetching; the others serve when they are there.
    member.online = kept > 0
    at(nowMs + (span.end - span.start - kept) * member.fetchMs, () => {
      if (members.get(member.id) === member && member.sinceMs === sinceMs) member.online = true
    })
  }
  const decide = (member: Member) =>
    decideMove(view(member.id), {
      nLayers,
      maxHops,
      self: member.id,
      fits: member.fits,
      stayedMs: nowMs - member.sinceMs,
    })
  const look = (member: Member) => {
    if (members.get(member.id) !== member) return
    // The same question has the same answer: asked again only after news, and once more when the hour is over.
    const question = `${news} ${nowMs - member.sinceMs > 30_000} ${nowMs - member.sinceMs > 3_600_000} ${nowMs - lastNewsMs > newsMs}`
    const asked = member.asked === question
    member.asked = question
    if (!asked && !member.waiting && decide(member) !== undefined) {
      member.waiting = true
      at(nowMs + moveDelayMs(random()), () => {
        member.waiting = false
        const move = members.get(member.id) === member ? decide(member) : undefined
        if (move === undefined) return
        member.moves.push(nowMs)
        hold(member, move.span)
      })
    }
    at(nowMs + lookMs, () => look(member))
  }
  return {
    nowMs: () => nowMs,
    join(node, atMs) {
      at(atMs, () => {
        const { span } = chooseWindow(view(node.id), node.fits, { nLayers, maxHops })
        const fresh = { span, online: false, sinceMs: nowMs, waiting: false, asked: '', moves: [], history: [] }
        const member: Member = { ...node, ...fresh }
        members.set(node.id, member)
        hold(member, span)
        at(nowMs + lookMs * random(), () => look(member))
      })
    },
    kill(id, atMs) {
      at(atMs, () => {
        const member = members.get(id)
        if (member === undefined) return
        members.delete(id)
        // Others go on counting it until its silence is noticed.
        const ghost: Member = { ...member, online: false }
        members.set(`${id} (gone)`, { ...ghost, id: `${id} (gone)` })
        at(nowMs + silenceMs, () => {
          members.delete(`${id} (gone)`)
          noteNews()
        })
      })
    },
    run(untilMs, watch) {
      for (let next = events[0]; next !== undefined && next.atMs <= untilMs; next = events[0]) {
        events.shift()
        nowMs = next.atMs
        next.act()
        watch?.(nowMs)
      }
      nowMs = untilMs
    },
    announced: () => [...members.values()].filter(({ id }) => !id.endsWith('(gone)')).map(assigned),
    online: () => [...members.values()].filter(({ online }) => online).map(assigned),
    movesOf: (id) => members.get(id)?.moves ?? [],
  }
}

function overlap(a: Span | undefined, b: Span): number {
  return a === undefined ? 0 : Math.max(0, Math.min(a.end, b.end) - Math.max(a.start, b.start))
}

/** Weakest layer, and what it would be if every node's speed were spread evenly: no swarm can do better. */
export function balance(peers: readonly Assigned[], nLayers: number): { weakest: number; ideal: number } {
  const load = layerThroughput(peers, nLayers)
  const ideal = peers.reduce((sum, { msPerLayer }) => sum + 1000 / msPerLayer, 0) / nLayers
  return { weakest: Math.min(...load), ideal }
}

export function hopsOf(peers: readonly Assigned[], nLayers: number): number {
  return minHops(
    peers.map(({ span }) => span),
    nLayers,
  )
}

/** mulberry32: repeatable numbers in [0, 1). */
export function createRandom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}
