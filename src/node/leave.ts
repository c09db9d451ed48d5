import { pipelineLimits } from '../base/limits.ts'
import { sleep } from '../base/sleep.ts'
import { isInUse } from './in-use.ts'
import type { LayerService } from './layer-service.ts'
import type { NodeParts } from './parts.ts'

const LOOK_MS = 50

/**
 * Before a node stops: it takes nothing new and tells the swarm that it leaves. Entries that find other holders move their
 * answers there; those that find none have theirs finished here, for `leaveMs` at most. Its own answers finish, too.
 */
export async function leaveInOrder(
  parts: Pick<NodeParts, 'hops' | 'generations' | 'idle' | 'onion'>,
  service: Pick<LayerService, 'leave'>,
  signal: AbortSignal,
): Promise<void> {
  const { generations, idle, onion } = parts
  generations.refuse()
  await idle.clear()
  await service.leave()
  const deadlineMs = performance.now() + pipelineLimits.leaveMs
  const isNeeded = () => isInUse(parts, pipelineLimits.quietMs) || onion.relaying(pipelineLimits.quietMs) > 0
  while (isNeeded() && !signal.aborted && performance.now() < deadlineMs) await sleep(LOOK_MS, signal)
}
