import { execFile } from 'node:child_process'
import { readdir, writeFile } from 'node:fs/promises'
import { type AddressInfo, connect, createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterEach, describe, expect, it } from 'vitest'
import { fromUtf8, utf8 } from '../../src/base/bytes.ts'
import { p2pLimits } from '../../src/base/limits.ts'
import { listenAddrs } from '../../src/p2p/peer-addrs.ts'
import { createCleanup, eventually, startPeer, temporaryFolder } from './p2p-helpers.ts'

const cleanup = createCleanup()
afterEach(() => cleanup.run())

const ECHO = '/llm/test-echo/1'
const echo = (maxRequestBytes = 1_000) => ({
  prepare: async (node: Parameters<NonNullable<Parameters<typeof startPeer>[2]>>[0]) => {
    await node.handle(ECHO, { maxRequestBytes }, async (body) => {
      const text = fromUtf8(body)
      if (text === 'refuse') throw new Error('refused')
      if (text === 'slow') await sleep(2_000)
      return text === 'long' ? new Uint8Array(5_000) : body
    })
  },
})

describe('requests', () => {
  it('are answered, many at once too', async () => {
    const [a, b] = [await startPeer(cleanup), await startPeer(cleanup, {}, echo().prepare)]
    const ask = (text: string) => a.node.request(b.target, ECHO, utf8(text), { maxResponseBytes: 1_000 })
    expect(fromUtf8(await ask('hello'))).toBe('hello')
    expect(fromUtf8(await ask(''))).toBe('')
    const answers = await Promise.all(Array.from({ length: 60 }, (_, i) => ask(`${i}`)))
    expect(answers.map(fromUtf8)).toEqual(Array.from({ length: 60 }, (_, i) => `${i}`))
  })

  it('fail with a code when refused, too long, too slow or unknown', async () => {
    const [a, b] = [await startPeer(cleanup), await startPeer(cleanup, {}, echo().prepare)]
    const ask = (text: string, options = {}) =>
      a.node.request(b.target, ECHO, utf8(text), { maxResponseBytes: 1_000, ...options })
    await expect(ask('refuse')).rejects.toMatchObject({ code: 'PEER_REFUSED' })
    await expect(ask('x'.repeat(1_001))).rejects.toMatchObject({ code: 'PEER_REFUSED' })
    await expect(ask('long')).rejects.toMatchObject({ code: 'BAD_FRAME' })
    await expect(ask('slow', { timeoutMs: 200 })).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' })
    await expect(ask('slow', { signal: AbortSignal.timeout(100) })).rejects.toMatchObject({ code: 'ABORTED' })
    const unknown = a.node.request(b.target, '/llm/nothing/1', utf8(''), { maxResponseBytes: 10 })
    await expect(unknown).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' })
    expect(fromUtf8(await ask('still here'))).toBe('still here')
  })

  it('wait for at most a number of others', async () => {
    const [a, b] = [await startPeer(cleanup), await startPeer(cleanup, {}, echo().prepare)]
    const asks = Array.from({ length: 80 }, () => a.node.request(b.target, ECHO, utf8('x'), { maxResponseBytes: 10 }))
    const results = await Promise.allSettled(asks)
    const failed = results.filter((result) => result.status === 'rejected')
    expect(failed).toHaveLength(14)
    expect(failed[0]).toMatchObject({ reason: { code: 'LIMIT' } })
  })
})

/** Passes a node's bytes on both ways, the first of its answers after `holdMs`. Gives the port. */
async function startSlowWay(port: number, holdMs: number): Promise<number> {
  const way = createServer((from) => {
    const to = connect(port, '127.0.0.1')
    from.pipe(to)
    const held = setTimeout(() => to.pipe(from), holdMs)
    for (const [one, other] of [[from, to] as const, [to, from] as const]) {
      one.on('error', () => other.destroy()).on('close', () => other.destroy())
    }
    from.on('close', () => clearTimeout(held))
  })
  await new Promise<void>((resolve) => way.listen(0, '127.0.0.1', resolve))
  cleanup.add(async () => way.close())
  return (way.address() as AddressInfo).port
}

describe('peer node', () => {
  it('waits for a node that is there and takes its time with the handshake', async () => {
    const [a, b] = [await startPeer(cleanup), await startPeer(cleanup)]
    const port = Number(/tcp\/(\d+)/.exec(b.target.addrs[0] ?? '')?.[1])
    const slow = await startSlowWay(port, p2pLimits.connectAddressMs + 500)
    await a.node.connect(
      { peerId: b.target.peerId, addrs: [`/ip4/127.0.0.1/tcp/${slow}`] },
      { signal: AbortSignal.timeout(10_000) },
    )
    expect(a.node.isConnected(b.target.peerId)).toBe(true)
  })

  it('says when its port is taken, and what to do', async () => {
    const a = await startPeer(cleanup)
    const port = Number(/tcp\/(\d+)/.exec(a.target.addrs[0] ?? '')?.[1])
    await expect(startPeer(cleanup, { listen: listenAddrs('127.0.0.1', port, ['tcp']) })).rejects.toMatchObject({
      code: 'PORT_IN_USE',
      hint: expect.stringContaining('--port'),
    })
    await expect(startPeer(cleanup, { listen: ['/ip4/192.0.2.1/tcp/0'] })).rejects.toMatchObject({ code: 'BAD_CONFIG' })
  })

  it('refuses a bootstrap address that is none', async () => {
    await expect(startPeer(cleanup, { bootstrap: ['127.0.0.1:99'] })).rejects.toMatchObject({ code: 'BAD_INPUT' })
  })

  it('tells who speaks a protocol, and when they leave', async () => {
    const events: string[] = []
    const a = await startPeer(cleanup, {}, async (node) => {
      await node.onPeer(ECHO, {
        connected: (peerId) => events.push(`+${peerId}`),
        disconnected: (peerId) => events.push(`-${peerId}`),
      })
    })
    const silent = await startPeer(cleanup, { bootstrap: a.bootstrap })
    const b = await startPeer(cleanup, { bootstrap: a.bootstrap }, echo().prepare)
    const { peerId } = b.node.self
    await eventually(() => events.includes(`+${peerId}`), 3_000)
    expect(a.node.connections().find((connection) => connection.peerId === peerId)).toMatchObject({
      direction: 'inbound',
      transport: 'tcp',
      isLocal: true,
    })
    expect(await a.node.ping(peerId, { signal: AbortSignal.timeout(2_000) })).toBeLessThan(1_000)
    await b.node.stop()
    await eventually(() => events.includes(`-${peerId}`), 3_000)
    expect(events.some((event) => event.includes(silent.node.self.peerId))).toBe(false)
  })

  it('comes back to a bootstrap node that restarts', async () => {
    const folder = await temporaryFolder(cleanup)
    const first = await startPeer(cleanup, { identityFolder: folder })
    const a = await startPeer(cleanup, { bootstrap: first.bootstrap })
    await eventually(() => a.node.isConnected(first.node.self.peerId), 3_000)
    await first.node.stop()
    await eventually(() => !a.node.isConnected(first.node.self.peerId), 3_000)
    const listen = first.target.addrs
    await startPeer(cleanup, { identityFolder: folder, listen })
    await eventually(() => a.node.isConnected(first.node.self.peerId), 8_000)
  })

  it('dials the peers it knew before its own restart', async () => {
    const [keys, folder] = [await temporaryFolder(cleanup), await temporaryFolder(cleanup)]
    const b = await startPeer(cleanup)
    const a = await startPeer(cleanup, { identityFolder: keys, folder, bootstrap: b.bootstrap })
    await eventually(() => a.node.isConnected(b.node.self.peerId), 3_000)
    await a.node.stop()
    await eventually(() => !b.node.isConnected(a.node.self.peerId), 3_000)
    const again = await startPeer(cleanup, { identityFolder: keys, folder })
    await eventually(() => again.node.isConnected(b.node.self.peerId), 3_000)
    await expect(startPeer(cleanup, { folder })).rejects.toMatchObject({ code: 'HOME_IN_USE' })
    expect(await readdir(join(folder, 'peers'))).toContain('LOCK')
  })

  it('leaves nothing behind that would keep its process alive', async () => {
    const program = fileURLToPath(new URL('p2p-stop.process.ts', import.meta.url))
    const { stdout } = await promisify(execFile)(process.execPath, [program, await temporaryFolder(cleanup)])
    expect(JSON.parse(stdout)).toEqual([])
  })

  it('replaces a damaged store of known peers', async () => {
    const folder = await temporaryFolder(cleanup)
    const a = await startPeer(cleanup, { folder })
    await a.node.stop()
    await writeFile(join(folder, 'peers', 'CURRENT'), 'nonsense')
    const again = await startPeer(cleanup, { folder })
    expect(again.target.addrs).toHaveLength(1)
  })

  it('shares loopback addresses only when it has no others', async () => {
    const a = await startPeer(cleanup, { transports: ['tcp', 'quic'] })
    expect(a.target.addrs).toHaveLength(2)
    expect(a.target.addrs.every((addr) => addr.startsWith('/ip4/127.0.0.1/'))).toBe(true)
    const b = await startPeer(cleanup, { listen: ['/ip4/0.0.0.0/tcp/0'] })
    const beyond = b.target.addrs.filter((addr) => !addr.includes('/127.0.0.1/'))
    expect(beyond.length === 0 || beyond.length === b.target.addrs.length).toBe(true)
  })

  it('stops twice without complaint', async () => {
    const a = await startPeer(cleanup)
    await Promise.all([a.node.stop(), a.node.stop()])
    await a.node.stop()
  })
})
