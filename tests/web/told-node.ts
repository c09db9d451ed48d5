/** The real HTTP side and the real pages on a node whose state a test makes up: large swarms, hostile strings. */
import { join } from 'node:path'
import { createApi } from '../../src/api/app.ts'
import { createEventLog, type EventLog } from '../../src/api/event-log.ts'
import type { Inference } from '../../src/api/inference.ts'
import type { CoverageBody, NodeControl, PeerBody } from '../../src/api/types.ts'
import { systemClock } from '../../src/base/clock.ts'
import { silentLogger } from '../../src/base/logger.ts'
import { locateHome } from '../../src/node/home.ts'
import { createHomeControl } from '../../src/node/home-control.ts'
import { createPages } from '../../src/node/page-files.ts'
import { listenHttp } from '../../src/node/serve-http.ts'
import { adminToken } from '../integration/api-helpers.ts'
import { type Cleanup, temporaryFolder } from '../integration/p2p-helpers.ts'
import { answer, card } from '../unit/api/app-helpers.ts'

type CoverageModel = CoverageBody['models'][number]

export interface ToldNode {
  /** With the token. */
  readonly url: string
  readonly events: EventLog
}

export interface Told {
  readonly peers: readonly PeerBody[]
  readonly models: readonly CoverageModel[]
  /** The text of every answer. */
  readonly text?: string
}

export async function startToldNode(cleanup: Cleanup, { peers, models, text = 'Hello.' }: Told): Promise<ToldNode> {
  const events = createEventLog({ startedMs: Date.now() })
  const inference: Inference = {
    models: () => [card],
    async *generate() {
      for (const event of answer) {
        if (event.type === 'text') yield { ...event, text: event.text === 'Hello' ? text : '' }
        else yield event
      }
    },
    embed: () => Promise.reject(new Error('Nobody asks for this.')),
  }
  const control = {
    status: () => statusOf(peers),
    peers: () => peers,
    coverage: () => ({ models }),
    sessions: () => [],
    generations: () => [],
    usage: () => ({ models: [] }),
  } as unknown as NodeControl
  const home = createHomeControl(locateHome(join(await temporaryFolder(cleanup), 'home'), {}))
  const app = createApi(
    { token: adminToken, loopback: true, requireKey: false, allowedHosts: [] },
    {
      ...{ control, inference, events, home, pages: createPages() },
      ...{ keys: { find: async () => undefined }, clock: systemClock, logger: silentLogger },
    },
  )
  const server = await listenHttp(app, { host: '127.0.0.1', port: 0 })
  cleanup.add(async () => server.close())
  return { url: `${server.url}/#token=${adminToken}`, events }
}

function statusOf(peers: readonly PeerBody[]) {
  return {
    ...{ address: addressOf(0), peerId: '', network: 'told', version: '0.1.0', pid: 1, uptimeS: 60, listening: [] },
    ...{
      models: [],
      peers: peers.length,
      sessions: 0,
      circuits: 0,
      kvBytes: 0,
      rssBytes: 2e8,
      health: [],
      paused: null,
      moving: null,
    },
    ...{ reachability: { word: 'public', ok: true, reason: '', next: null } },
    ...{ relay: { on: true, circuits: 0, most: 256 }, decode: { steps: 0, meanMs: null } },
  }
}

function addressOf(index: number): string {
  return `${index
    .toString(26)
    .replaceAll(/\d/g, (digit) => 'qrstuvwxyz'[Number(digit)] ?? '')
    .padStart(56, 'a')}.llm`
}

/** A peer that holds `span` of a model with `nLayers`. */
export function toldPeer(index: number, span: { start: number; end: number }): PeerBody {
  const serving = { modelId: card.modelId, recipe: 'i8/1', span, state: 'online', numericsClass: '', freeKvTokens: 1 }
  return {
    ...{ address: addressOf(index), peerId: `peer${index}`, state: 'online', connected: index % 3 === 0 },
    ...{ rttMs: index % 90, version: '0.1.0', relayed: index % 7 === 0, serving: [{ ...serving, decodeMs: 1 }] },
    ...{ transport: 'tcp', quality: 'good', reachability: 'public', score: null, twoTruths: false },
  }
}

export function toldModel(nLayers: number, peers: readonly PeerBody[]): CoverageModel {
  const holders = peers.flatMap(({ address, serving }) =>
    serving.map(({ span }) => ({ address, span, state: 'online', self: false })),
  )
  const replicas = Array.from({ length: nLayers }, (_, layer) => {
    return holders.filter(({ span }) => span.start <= layer && layer < span.end).length
  })
  const complete = replicas.every((count) => count > 0)
  return { name: 'told', modelId: card.modelId, recipe: 'i8/1', nLayers, replicas, gaps: [], complete, holders }
}
