import { createRandom } from '../../../src/base/random.ts'
import type { Deliver, Tap } from './memory-network.ts'

const KINDS = ['flip', 'drop', 'twice', 'swap', 'reflect', 'replay', 'garbage'] as const

/** Frames on their way, and what may happen to them. */
export interface Mischief {
  readonly deliver: Deliver
  readonly tap: Tap
  readonly random: () => number
  /** Does this to a frame, after so many others. */
  plan(kind: (typeof KINDS)[number], after: number): void
  stop(): void
}

/** Every link keeps its order; which link goes on next is chance. Attackers sit on the wire, as broken hops would. */
export function createMachineNetwork(seed: number): Mischief {
  const random = createRandom(seed | 1)
  const queues = new Map<object, (() => void)[]>()
  let pumping = false
  const pump = () => {
    const links = [...queues.keys()]
    const link = links[random() % Math.max(1, links.length)]
    const queue = link === undefined ? undefined : queues.get(link)
    if (link === undefined || queue === undefined) {
      pumping = false
      return
    }
    const arrive = queue.shift()
    if (queue.length === 0) queues.delete(link)
    arrive?.()
    queueMicrotask(pump)
  }
  const plans: { kind: (typeof KINDS)[number]; after: number }[] = []
  const past: Uint8Array[] = []
  let held: Uint8Array | undefined
  let stopped = false

  const act = (kind: (typeof KINDS)[number], frame: Uint8Array): readonly Uint8Array[] => {
    if (kind === 'drop') return []
    if (kind === 'twice') return [frame, Uint8Array.from(frame)]
    if (kind === 'replay' || kind === 'reflect') return [past[random() % Math.max(1, past.length)] ?? frame, frame]
    if (kind === 'swap') {
      held = frame
      return []
    }
    const changed = Uint8Array.from(frame)
    // Behind the header: the transport has already looked at that.
    if (kind === 'flip') {
      const at = 14 + (random() % (changed.length - 14))
      changed[at] = (changed[at] ?? 0) ^ (1 << (random() % 8))
    } else {
      for (let i = 4; i < changed.length; i++) changed[i] = random()
      if (changed[0] === 16) changed.set(frame.subarray(0, 6))
    }
    return [changed]
  }

  return {
    random,
    deliver(arrive, link) {
      const queue = queues.get(link) ?? []
      queues.set(link, queue)
      queue.push(arrive)
      if (pumping) return
      pumping = true
      queueMicrotask(pump)
    },
    tap(frame) {
      if (stopped) return frame
      past.push(Uint8Array.from(frame))
      if (past.length > 64) past.shift()
      const first = plans[0]
      const before = held === undefined ? [] : [held]
      held = undefined
      if (first !== undefined && first.after-- <= 0) {
        plans.shift()
        return [...act(first.kind, frame), ...before]
      }
      return [frame, ...before]
    },
    plan(kind, after) {
      plans.push({ kind, after })
    },
    stop() {
      stopped = true
      plans.length = 0
      held = undefined
    },
  }
}
