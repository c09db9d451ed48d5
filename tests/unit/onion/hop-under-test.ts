import { randomBytes } from 'node:crypto'
import { expect } from 'vitest'
import { type DataHeader, KIND } from '../../../src/onion/data.ts'
import { writeDataHeader } from '../../../src/onion/frames.ts'
import { encodeExtend, OP } from '../../../src/onion/ops.ts'
import { openRaw, type RawEnd, watchLink } from './raw-client.ts'
import { createSwarm, HIDDEN, idleStats, type SwarmNode } from './swarm.ts'
import { settle } from './virtual-clock.ts'

/** Node 0 of the swarm is the hop under test, `client` and `next` are peers without rules. */
export function setUpHop(settings: Parameters<typeof createSwarm>[1] = {}) {
  const swarm = createSwarm(1, settings)
  const client = swarm.network.node(peerOf(100), { local: settings.local ?? true })
  const next = swarm.network.node(peerOf(101), { addrs: ['/ip4/127.0.0.1/tcp/9'] })
  const accepted: RawEnd[] = []
  next.onLink((link) => accepted.push(watchLink(link)))
  const [hop] = swarm.hops
  if (hop === undefined) throw new Error('no hop')
  return { swarm, hop, client, next, accepted }
}
/** Further peer ids: of swarms that are never used. */
const strangers = createSwarm(140).peers
export const peerOf = (index: number) => strangers[index] ?? ''

export const dataFrame = (ctLen: number) => {
  const frame = new Uint8Array(14 + ctLen)
  writeDataHeader(frame, 3, 0)
  return frame
}
export const forwardHeader = (nTokens: number, change: Partial<DataHeader> = {}): DataHeader => ({
  kind: KIND.forward,
  step: 0,
  pos: 0,
  nTokens,
  want: 1,
  hiddenSize: HIDDEN,
  totalBytes: nTokens * HIDDEN * 4,
  ...change,
})
export const extendTo = (peerId: string, create: Uint8Array, addrs = ['/ip4/127.0.0.1/tcp/9']) =>
  encodeExtend({ target: { peerId, addrs }, create })

/** A second circuit that must survive what happens to the first. */
export async function withWitness(hop: SwarmNode, client: Parameters<typeof openRaw>[0], attack: () => Promise<void>) {
  const witness = await openRaw(client, hop)
  await attack()
  const answer = await witness.ask(OP.ping, randomBytes(8))
  expect(answer).toMatchObject({ op: OP.pong })
  witness.link.close()
  await settle()
  expect(hop.service.stats()).toEqual(idleStats)
  expect(hop.compute.sessions.size).toBe(0)
}
