/** What the links of a guarded circuit carry, caught under the onion layer and above the transport's own encryption. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { nodeCrypto } from '../../src/onion/crypto.ts'
import { bytesOf } from '../../src/onion/data.ts'
import { COMMAND } from '../../src/onion/frames.ts'
import type { CircuitTransport, FrameLink } from '../../src/onion/ports.ts'
import { encodePrompt } from '../../src/pipeline/prompt.ts'
import { createCleanup } from './p2p-helpers.ts'
import { openTestModel, startComputeNode, startEntry, type TestModel, type WrapOnion } from './pipeline-helpers.ts'

const lasting = createCleanup()
const cleanup = createCleanup()
let model: TestModel
beforeAll(async () => {
  model = await openTestModel(lasting)
})
afterEach(() => cleanup.run())
afterAll(() => lasting.run())

interface Caught {
  readonly from: string
  readonly to: string
  readonly frame: Buffer
}

/** Sees every frame that a node sends, and every key that it uses. */
function createCapture() {
  const frames: Caught[] = []
  const secrets = new Set<string>()
  const tapped = (link: FrameLink, self: string): FrameLink =>
    new Proxy(link, {
      get: (target, name) => {
        if (name === 'send') {
          return (frame: Uint8Array) => {
            frames.push({ from: self, to: target.remotePeer, frame: Buffer.from(frame) })
            return target.send(frame)
          }
        }
        const value = Reflect.get(target, name, target) as unknown
        return typeof value === 'function' ? value.bind(target) : value
      },
    })
  const around: WrapOnion = (deps) => {
    const { transport } = deps
    const watched: CircuitTransport = {
      get self() {
        return transport.self
      },
      isConnected: (peerId) => transport.isConnected(peerId),
      connect: (target, options) => transport.connect(target, options),
      open: async (target, options) => tapped(await transport.open(target, options), transport.self.peerId),
      refuse: (peerId, ms) => transport.refuse(peerId, ms),
      onLink: (handler) => transport.onLink((link) => handler(tapped(link, transport.self.peerId))),
    }
    const note = (bytes: Uint8Array) => secrets.add(Buffer.from(bytes).toString('hex'))
    const crypto = {
      ...nodeCrypto,
      aead(key: Uint8Array) {
        note(key)
        return nodeCrypto.aead(key)
      },
      x25519(privateKey: Uint8Array, publicKey: Uint8Array) {
        note(privateKey)
        const shared = nodeCrypto.x25519(privateKey, publicKey)
        note(shared)
        return shared
      },
    }
    return { ...deps, transport: watched, crypto }
  }
  return { frames, secrets, around }
}

const ask = {
  prompt: { messages: [{ role: 'user' as const, content: 'a secret that nobody on the way may read' }] },
  profile: 'guarded' as const,
  maxTokens: 12,
  speculate: false,
}

async function captured(privacyChange: { cadenceMs?: number } = {}) {
  const { frames, secrets, around } = createCapture()
  const start = (from: number, to: number) => startComputeNode(cleanup, model, { start: from, end: to }, { around })
  const [nodes, relays] = await Promise.all([
    Promise.all([start(0, 6), start(6, 12)]),
    Promise.all([start(0, 6), start(0, 6)]),
  ])
  const placeOf = (address: string) => ({ address, family: [], networks: [] })
  const privacy = {
    ...{ guards: () => relays.map(({ holder }) => placeOf(holder.address)), placeOf },
    ...{ trusted: new Set<string>(), mayShare: false },
    ...privacyChange,
  }
  const entry = await startEntry(cleanup, model, nodes, { relays, privacy, around })
  const { result, error } = await entry.ask(ask)
  expect(error).toBeUndefined()
  expect(result?.tokens).toHaveLength(ask.maxTokens)
  const way = [entry.node, relays[0]?.node, nodes[0]?.node, nodes[1]?.node, relays[1]?.node, entry.node]
  const links = way.slice(1).map((to, i) => ({ from: way[i]?.self.peerId, to: to?.self.peerId }))
  const dataOf = (link: { from: string | undefined; to: string | undefined }) =>
    frames.flatMap(({ from, to, frame }) =>
      from === link.from && to === link.to && frame[0] === COMMAND.data ? [frame] : [],
    )
  return { frames, secrets, links, dataOf, text: result?.text ?? '' }
}

describe('on the links of a guarded circuit', () => {
  test('no text, no rows and no key; the same row looks different on each link', async () => {
    const { frames, secrets, links, dataOf, text } = await captured()
    const ids = encodePrompt(model.askable.text, ask.prompt)
    const rows = Buffer.from(bytesOf(await model.engine.ends.embed(ids)))
    const needles = [Buffer.from('secret'), Buffer.from('nobody'), ...(text.length > 7 ? [Buffer.from(text)] : [])]
    for (let at = 0; at + 16 <= rows.length; at += 64) needles.push(rows.subarray(at, at + 16))
    for (const secret of secrets) needles.push(Buffer.from(secret, 'hex'))
    expect(secrets.size).toBeGreaterThan(30)
    expect(needles.length).toBeGreaterThan(100)
    const wire = Buffer.concat(frames.map(({ frame }) => frame))
    expect(wire.length).toBeGreaterThan(100_000)
    for (const needle of needles) expect(wire.includes(needle), needle.toString('hex')).toBe(false)
    // The check can fail: what is there is found.
    expect(wire.includes(frames[0]?.frame.subarray(100, 116) ?? '')).toBe(true)
    for (const [index, link] of links.entries()) {
      const others = Buffer.concat(links.filter((_, other) => other !== index).flatMap(dataOf))
      for (const frame of dataOf(link)) expect(others.includes(frame.subarray(14, 46))).toBe(false)
    }
  })

  test('every token without a draft is one frame of one size', async () => {
    const { links, dataOf } = await captured()
    for (const link of links) {
      const sizes = dataOf(link).map(({ length }) => length)
      // The prompt first, as rows or as one result; then a frame a token.
      expect(sizes.length).toBe(ask.maxTokens)
      expect(new Set(sizes.slice(1)).size).toBe(1)
    }
  })

  test('with a cadence they come at a beat, and more of them than tokens', async () => {
    const { links, dataOf } = await captured({ cadenceMs: 20 })
    for (const link of links) {
      const sizes = dataOf(link).map(({ length }) => length)
      expect(sizes.length).toBeGreaterThanOrEqual(ask.maxTokens)
      expect(new Set(sizes.slice(1)).size).toBe(1)
    }
  })
})
