import { pipelineLimits } from '../base/limits.ts'
import type { ChainPlan, OpenedChain } from './entry.ts'
import { race } from './race.ts'

export interface OpenFirstOptions {
  /** The way that was chosen. */
  readonly chosen: (signal: AbortSignal) => Promise<OpenedChain>
  /** Another one beside it; undefined: there is none. */
  readonly beside: (signal: AbortSignal) => Promise<OpenedChain | undefined>
  /** After so many ms the chosen one is late. */
  readonly lateMs: number
  /** The other one stood first: where the chosen one was held up, or had failed. */
  readonly onLate: (error: unknown) => void
  readonly signal: AbortSignal
}

/**
 * Opens a chain; when that is late, another one beside it, and takes what stands first: a hop that has frozen says nothing
 * until a long deadline. The loser is closed. Throws what opening the chosen one throws.
 */
export async function openFirst(options: OpenFirstOptions): Promise<OpenedChain> {
  const { chosen, beside, lateMs, onLate, signal } = options
  const over = new AbortController()
  const either = AbortSignal.any([signal, over.signal])
  const first = chosen(either)
  let other: Promise<OpenedChain | undefined> | undefined
  let taken: OpenedChain | undefined
  const second = () => {
    other = beside(either)
    return other
  }
  try {
    taken = await race(first, { lateMs, second, limitMs: undefined })
    return taken
  } finally {
    over.abort()
    const close = (opened: OpenedChain | undefined) => (opened === taken ? undefined : opened?.chain.close())
    first.then(close, (error: unknown) => {
      if (taken !== undefined) onLate(error)
    })
    other?.then(close, () => {})
  }
}

/** Ms after which building takes too long for the links that it goes over: each hop is told over all before it. */
export function lateToOpenMs({ route }: Pick<ChainPlan, 'route'>): number {
  const hops = route?.hops ?? []
  const aroundMs = hops.reduce((sum, { linkMs }) => sum + linkMs, route?.homeMs ?? 0)
  return pipelineLimits.lateToOpenMs + 2 * (hops.length + 1) * aroundMs
}
