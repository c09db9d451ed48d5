import type { NetcheckBody } from '../api/types.ts'
import type { Config } from '../base/config.ts'
import type { PeerNode, ReachabilityReport } from '../p2p/peer-node.ts'

interface NetcheckParts {
  readonly peer: Pick<PeerNode, 'self' | 'reachability' | 'connectionTo' | 'connections' | 'ping'>
  readonly config: Config
  /** The network has a key: QUIC, which would pass by it, is off. */
  readonly private: boolean
}

type Finding = NetcheckBody['findings'][number]

const PING_MS = 2_000

/** How this node stands in the network, with round trips to its relays and bootstrap nodes taken now. */
export async function netcheck(parts: NetcheckParts, signal: AbortSignal): Promise<NetcheckBody> {
  const { peer, config } = parts
  const report = peer.reachability()
  const { word, ok, reason, next } = report
  const bootstrap = config.network.bootstrap.flatMap((addr) => addr.split('/p2p/')[1] ?? [])
  const roles = new Map<string, 'bootstrap' | 'relay'>(report.relays.map((peerId) => [peerId, 'relay']))
  for (const peerId of bootstrap) roles.set(peerId, 'bootstrap')
  const servers = await Promise.all(
    [...roles].map(async ([peerId, role]) => {
      const transport = peer.connectionTo(peerId)?.transport ?? null
      const limited = AbortSignal.any([signal, AbortSignal.timeout(PING_MS)])
      return { peerId, role, transport, rttMs: await peer.ping(peerId, { signal: limited }).catch(() => null) }
    }),
  )
  const reached = servers.filter(({ role, rttMs }) => role === 'bootstrap' && rttMs !== null).length
  return {
    reachability: { word, ok, reason, next },
    addresses: peer.self.addrs(),
    servers,
    findings: [
      checkBootstrap(bootstrap.length, reached),
      checkUdp(report, parts),
      checkRouter(report, config),
      checkSeen(report),
      checkHoles(report),
      checkRelaying(report, config),
    ],
  }
}

function checkBootstrap(configured: number, reached: number): Finding {
  const name = 'bootstrap'
  if (configured === 0)
    return { name, ok: null, text: 'None is configured: this node meets its own network.', next: null }
  const next = 'Check the connection, or ask for a current address: llm-node bootstrap add ADDRESS'
  return { name, ok: reached > 0, text: `${reached} of ${configured} answer.`, next: reached > 0 ? null : next }
}

function checkUdp({ quic }: ReachabilityReport, parts: NetcheckParts): Finding {
  const name = 'UDP'
  if (parts.private) return { name, ok: null, text: 'Not used: QUIC has no gate for a private network.', next: null }
  const used = parts.peer.connections().filter(({ transport }) => transport === 'quic').length
  if (quic.worked > 0 || used > 0) {
    return {
      name,
      ok: true,
      text: `QUIC works; ${used} connection${used === 1 ? ' uses' : 's use'} it now.`,
      next: null,
    }
  }
  if (quic.failed === 0) return { name, ok: null, text: 'Not tried yet: nobody outside offers QUIC.', next: null }
  return {
    name,
    ok: false,
    text: 'QUIC gets no answer, so TCP is used.',
    next: 'Nothing has to be done; with UDP allowed, links that lose packets become faster.',
  }
}

function checkRouter({ word }: ReachabilityReport, { network }: Config): Finding {
  const name = 'router'
  if (word === 'mapped') return { name, ok: true, text: 'It forwards the port to this node.', next: null }
  if (word === 'public') return { name, ok: true, text: 'None is in the way.', next: null }
  if (!network.upnp) {
    return { name, ok: null, text: 'It is not asked to forward the port (network.upnp is false).', next: null }
  }
  return {
    name,
    ok: null,
    text: 'It was asked to forward the port (UPnP); no forwarded port is known to work.',
    next: null,
  }
}

function checkSeen({ seenAs }: ReachabilityReport): Finding {
  const text = seenAs.length === 0 ? 'Nobody outside has said.' : `Others see this node at ${seenAs.join(' and ')}.`
  return { name: 'seen as', ok: null, text, next: null }
}

/** Said as it is: libp2p in Node dials back to public peers, and makes no holes. */
function checkHoles({ upgrades }: ReachabilityReport): Finding {
  const { relayed, direct } = upgrades
  const so =
    relayed === 0 ? 'No connection was relayed so far' : `${direct} of ${relayed} relayed connections became direct`
  const text = `${so}. Between two nodes behind routers links stay relayed: Node cannot punch holes.`
  return { name: 'hole punching', ok: null, text, next: null }
}

function checkRelaying({ relaying }: ReachabilityReport, { network }: Config): Finding {
  const name = 'relaying'
  if (relaying !== null) {
    const { reservations, connections } = relaying
    return {
      name,
      ok: true,
      text: `${reservations} nodes come in through this one, ${connections} connections now.`,
      next: null,
    }
  }
  const why = network.relay ? 'only a node that others can dial does it' : 'switched off (network.relay is false)'
  return { name, ok: null, text: `Off: ${why}.`, next: null }
}
