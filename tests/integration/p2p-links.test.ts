import { noise } from '@libp2p/noise'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { afterEach, describe, expect, it } from 'vitest'
import type { FramedStream } from '../../src/p2p/framed-stream.ts'
import type { TransportName } from '../../src/p2p/peer-addrs.ts'
import { createCleanup, eventually, startPeer, type TestPeer } from './p2p-helpers.ts'

const cleanup = createCleanup()
afterEach(() => cleanup.run())
const signal = AbortSignal.timeout(50_000)

const FIVE_KIB = 14 + 5 * 1024 + 16
const SIXTY_KIB = 14 + 60 * 1024 + 16

function dataFrame(bytes: number, mark = 0): Uint8Array {
  const frame = new Uint8Array(bytes)
  const view = new DataView(frame.buffer)
  view.setUint8(0, 16)
  view.setUint8(1, mark)
  view.setUint32(2, bytes - 14)
  frame.fill(mark, 14)
  return frame
}

/** A link from `a` to `b`, both ends. */
async function link(a: TestPeer, b: TestPeer): Promise<{ near: FramedStream; far: FramedStream }> {
  const accepted = new Promise<FramedStream>((resolve) => b.node.onLink(resolve))
  const near = await a.node.open(b.target, { signal })
  near.onFrame(() => {})
  // Multistream-select answers at once, but the far end learns of a TCP stream with the first bytes.
  return { near, far: await accepted }
}

function frames(stream: FramedStream): { next(): Promise<Uint8Array>; readonly seen: number } {
  const got: Uint8Array[] = []
  const waiting: ((frame: Uint8Array) => void)[] = []
  let seen = 0
  stream.onFrame((frame) => {
    seen++
    const waiter = waiting.shift()
    if (waiter) waiter(frame)
    else got.push(frame)
  })
  return {
    next: () => new Promise((resolve) => (got.length > 0 ? resolve(got.shift() as Uint8Array) : waiting.push(resolve))),
    get seen() {
      return seen
    },
  }
}

/** Closing takes a round trip, and only then the next stream has a place. */
async function eventuallyOpens(a: TestPeer, b: TestPeer): Promise<FramedStream> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await a.node.open(b.target, { signal })
    } catch (error) {
      if (attempt === 100) throw error
    }
  }
}

function ended(stream: FramedStream): Promise<Error | undefined> {
  return new Promise((resolve) => stream.onEnd(resolve))
}

describe.each<TransportName>(['tcp', 'quic'])('links over %s', (transport) => {
  const peers = async () => {
    const options = { transports: [transport] }
    return [await startPeer(cleanup, options), await startPeer(cleanup, options)] as const
  }

  it('carry frames both ways, and say how fast', async () => {
    const [a, b] = await peers()
    b.node.onLink((far) => {
      let queue = Promise.resolve()
      far.onFrame((frame) => {
        queue = queue.then(() => (far.send(frame.slice()) ? undefined : far.drained())).catch(() => {})
      })
    })
    const near = await a.node.open(b.target, { signal })
    expect(near.remotePeer).toBe(b.node.self.peerId)
    expect(near.remoteIsLocal).toBe(true)
    expect(near.remoteSubnet).toBeUndefined()
    const inbox = frames(near)
    const time = async (rounds: number, perRound: readonly number[]) => {
      const taken: number[] = []
      for (let i = 0; i < rounds; i++) {
        const startMs = performance.now()
        for (const bytes of perRound) near.send(dataFrame(bytes, i & 255))
        for (const bytes of perRound) {
          const frame = await inbox.next()
          expect([frame.length, frame[1], frame.at(-1)]).toEqual([bytes, i & 255, i & 255])
        }
        taken.push(performance.now() - startMs)
      }
      return taken.sort((x, y) => x - y)[rounds >> 1] ?? 0
    }
    await time(50, [FIVE_KIB])
    const small = await time(100, [FIVE_KIB])
    const large = await time(15, Array(17).fill(SIXTY_KIB))
    // biome-ignore lint/suspicious/noConsole: the figures are part of what this test is for.
    console.info(`${transport}: 5 KiB there and back ${small.toFixed(2)} ms, 17 × 60 KiB ${large.toFixed(1)} ms`)
    expect(small).toBeLessThan(50)
    near.close()
  })

  it('wait for every drain, not only the first', async () => {
    const [a, b] = await peers()
    const { near, far } = await link(a, b)
    const inbox = frames(far)
    let held = 0
    for (let i = 0; i < 300; i++) {
      if (near.send(dataFrame(SIXTY_KIB, i & 255))) continue
      held++
      await near.drained()
    }
    expect(held).toBeGreaterThan(1)
    for (let i = 0; i < 300; i++) expect((await inbox.next())[20]).toBe(i & 255)
  })

  it('are drained only when everything is out, and never after their end', async () => {
    const [a, b] = await peers()
    const { near, far } = await link(a, b)
    far.onFrame(() => {})
    for (let i = 0; i < 100; i++) near.send(dataFrame(SIXTY_KIB))
    await near.drained()
    // QUIC takes one write at a time and says so after each.
    if (transport === 'tcp') expect(near.send(dataFrame(FIVE_KIB))).toBe(true)
    for (let i = 0; i < 100; i++) near.send(dataFrame(SIXTY_KIB))
    const pending = near.drained()
    near.abort('enough')
    await expect(pending).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' })
  })

  it('deliver what was sent before a close', async () => {
    const [a, b] = await peers()
    const { near, far } = await link(a, b)
    const inbox = frames(far)
    const farEnd = ended(far)
    const nearEnd = ended(near)
    for (let i = 0; i < 20; i++) near.send(dataFrame(SIXTY_KIB, i))
    near.close()
    near.close()
    expect(await nearEnd).toBeUndefined()
    expect(await farEnd).toBeUndefined()
    expect(inbox.seen).toBe(20)
    expect(() => near.send(dataFrame(FIVE_KIB))).toThrow(/has ended/)
    expect(() => far.send(dataFrame(FIVE_KIB))).toThrow(/has ended/)
    await expect(near.drained()).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' })
  })

  it('keep frames that come before the handler', async () => {
    const [a, b] = await peers()
    const { near, far } = await link(a, b)
    near.send(dataFrame(FIVE_KIB, 9))
    near.close()
    await new Promise((resolve) => setTimeout(resolve, 100))
    const end = ended(far)
    expect((await frames(far).next())[1]).toBe(9)
    expect(await end).toBeUndefined()
  })

  it('end with an error at both ends when aborted, and drained() rejects', async () => {
    const [a, b] = await peers()
    const { near, far } = await link(a, b)
    far.onFrame(() => {})
    const ends = Promise.all([ended(near), ended(far)])
    near.send(dataFrame(FIVE_KIB))
    near.abort('enough')
    near.abort('again')
    const [nearError, farError] = await ends
    expect(nearError?.message).toBe('enough')
    if (transport === 'tcp') expect(farError).toBeInstanceOf(Error)
    await expect(near.drained()).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' })
  })

  it('end when the peer goes away', async () => {
    const [a, b] = await peers()
    const { near, far } = await link(a, b)
    far.onFrame(() => {})
    const end = ended(near)
    await b.node.stop()
    await end
    expect(() => near.send(dataFrame(FIVE_KIB))).toThrow(/has ended/)
    await eventually(() => !a.node.isConnected(b.node.self.peerId), 5_000)
  })

  it('are cut at a frame that no circuit has, and only that link', async () => {
    const [a, b] = await peers()
    const first = await link(a, b)
    const second = await link(a, b)
    first.far.onFrame(() => {
      throw new Error('must not arrive')
    })
    const inbox = frames(second.far)
    const end = ended(first.far)
    const huge = dataFrame(FIVE_KIB)
    new DataView(huge.buffer).setUint32(2, 2 ** 32 - 1)
    first.near.send(huge)
    expect(await end).toMatchObject({ code: 'BAD_FRAME' })
    second.near.send(dataFrame(FIVE_KIB, 3))
    expect((await inbox.next())[1]).toBe(3)
  })
})

describe('links', () => {
  it('need the right peer behind the address', async () => {
    const [a, b, c] = [await startPeer(cleanup), await startPeer(cleanup), await startPeer(cleanup)]
    const startMs = performance.now()
    const wrong = a.node.open({ peerId: c.node.self.peerId, addrs: b.node.self.addrs() }, { signal })
    await expect(wrong).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' })
    expect(performance.now() - startMs).toBeLessThan(6_000)
    expect(a.node.isConnected(c.node.self.peerId)).toBe(false)
  })

  it('need an address or a connection, and stop on request', async () => {
    const [a, b] = [await startPeer(cleanup), await startPeer(cleanup)]
    const nowhere = { peerId: b.node.self.peerId, addrs: [] }
    await expect(a.node.open(nowhere, { signal })).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' })
    await a.node.connect(b.target, { signal })
    b.node.onLink((far) => far.onFrame(() => {}))
    const near = await a.node.open(nowhere, { signal })
    near.close()
    await expect(a.node.open(b.target, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'ABORTED' })
    await expect(a.node.open(a.target, { signal })).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' })
  })

  it('are at most 256 on a connection', async () => {
    const [a, b] = [await startPeer(cleanup), await startPeer(cleanup)]
    b.node.onLink((far) => far.onFrame(() => {}))
    const open = await Promise.all(Array.from({ length: 256 }, () => a.node.open(b.target, { signal })))
    await expect(a.node.open(b.target, { signal })).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' })
    for (const near of open) near.close()
    const again = await eventuallyOpens(a, b)
    again.close()
    // A refused stream costs the others nothing: it is still the first connection.
    expect(a.node.connections()).toHaveLength(1)
  })

  it('of any other protocol are at most 4 on a connection, however many a peer opens', async () => {
    const b = await startPeer(cleanup, {}, (node) =>
      node.handle('/test/slow/1', { maxRequestBytes: 10 }, () => new Promise<never>(() => {})),
    )
    const stranger = await createLibp2p({
      addresses: { listen: [] },
      transports: [tcp()],
      connectionEncrypters: [noise()],
      streamMuxers: [yamux()],
    })
    cleanup.add(async () => stranger.stop())
    const connection = await stranger.dial(multiaddr(b.bootstrap[0] ?? ''))
    const streams = await Promise.allSettled(
      Array.from({ length: 40 }, () => connection.newStream('/test/slow/1', { maxOutboundStreams: 100, signal })),
    )
    const isOpen = () => streams.filter((each) => each.status === 'fulfilled' && each.value.status === 'open').length
    await expect.poll(isOpen).toBe(4)
    expect(connection.status).toBe('open')
  })

  it('are reset where nobody takes circuits', async () => {
    const [a, b] = [await startPeer(cleanup), await startPeer(cleanup)]
    try {
      const near = await a.node.open(b.target, { signal })
      await ended(near)
    } catch (error) {
      expect(error).toMatchObject({ code: 'PEER_UNREACHABLE' })
    }
  })
})
