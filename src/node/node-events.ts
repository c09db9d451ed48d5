import type { CoverageBody, PeerBody } from '../api/types.ts'
import { apiLimits } from '../base/limits.ts'
import { coverage, peers, reachabilityOf } from './control.ts'
import type { NodeParts } from './parts.ts'

/** A bell that one side rings and another hears. */
export interface Signal {
  fire(): void
  listener: () => void
}

export function createSignal(): Signal {
  const signal: Signal = { listener: () => {}, fire: () => signal.listener() }
  return signal
}

/**
 * Tells the event log what changes in the swarm and in the sessions held here; changes that come close together are
 * told as one. The result ends it.
 */
export function watchNode(parts: NodeParts, sessionsChanged: Signal): () => void {
  const swarm = createSwarmWatcher(parts)
  const tellSwarm = delayed(() => swarm())
  const tellSessions = delayed(() => {
    parts.events.publish({ type: 'sessions', data: { sessions: parts.hops.sessions } })
  })
  parts.peer.onReachability(() => {
    parts.events.publish({ type: 'reachability', data: reachabilityOf(parts) })
  })
  const unsubscribe = parts.swarm.onChange(tellSwarm.request)
  sessionsChanged.listener = tellSessions.request
  return () => {
    unsubscribe()
    sessionsChanged.listener = () => {}
    tellSwarm.stop()
    tellSessions.stop()
  }
}

/** Publishes what differs from the last time. */
function createSwarmWatcher(parts: NodeParts): () => void {
  const { events } = parts
  let knownPeers = new Map<string, string>()
  let knownModels = new Map<string, string>()
  return () => {
    const nowPeers = new Map<string, string>()
    for (const peer of peers(parts)) {
      const text = peerKey(peer)
      nowPeers.set(peer.address, text)
      if (knownPeers.get(peer.address) !== text) events.publish({ type: 'peer', data: peer })
    }
    for (const address of knownPeers.keys()) {
      if (!nowPeers.has(address)) events.publish({ type: 'peer-left', data: { address } })
    }
    knownPeers = nowPeers
    const nowModels = new Map<string, string>()
    for (const model of coverage(parts).models) {
      const text = coverageKey(model)
      const key = `${model.modelId} ${model.recipe}`
      nowModels.set(key, text)
      if (knownModels.get(key) !== text) events.publish({ type: 'coverage', data: model })
    }
    knownModels = nowModels
  }
}

/** A round trip that is measured anew is no news, but the first one is; a score fades all the time. */
function peerKey({ rttMs, score, ...peer }: PeerBody): string {
  return JSON.stringify([peer, rttMs === null, score === null])
}

function coverageKey(model: CoverageBody['models'][number]): string {
  return JSON.stringify(model)
}

/** Runs `work` a while after the first request, once for all that come in between. */
function delayed(work: () => void): { request: () => void; stop: () => void } {
  let timer: NodeJS.Timeout | undefined
  return {
    request() {
      timer ??= setTimeout(() => {
        timer = undefined
        work()
      }, apiLimits.eventDelayMs)
    },
    stop: () => clearTimeout(timer),
  }
}
