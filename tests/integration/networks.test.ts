import { randomBytes } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { relayLimits } from '../../src/base/limits-reach.ts'
import { createSecret } from '../../src/base/secret.ts'
import { setSetting } from '../../src/node/config-edit.ts'
import { loadConfig, locateHome } from '../../src/node/home.ts'
import {
  addBootstrap,
  foundNetwork,
  inviteOf,
  joinNetwork,
  listBootstrap,
  removeBootstrap,
} from '../../src/node/joining.ts'
import { resolveNetwork } from '../../src/node/networks.ts'
import { encodeInvite } from '../../src/p2p/invite.ts'
import { networkVersion } from '../../src/p2p/network.ts'
import { createCleanup, eventually, startPeer, type TestPeer, temporaryFolder } from './p2p-helpers.ts'

const cleanup = createCleanup()
afterEach(() => cleanup.run())
const signal = AbortSignal.timeout(50_000)

const newKey = () => createSecret(new Uint8Array(randomBytes(32)))

/** A node of the private network `closed`; both transports asked for. */
function startMember(key = newKey(), bootstrap: readonly string[] = []): Promise<TestPeer> {
  const network = networkVersion('closed', key.reveal())
  return startPeer(cleanup, { network, preSharedKey: key, bootstrap, transports: ['tcp', 'quic'] }, async (node) => {
    await node.handle('/llm/test-echo/1', { maxRequestBytes: 100 }, (body) => body)
  })
}

/** What a socket that speaks without the key gets to read. */
function talk(addr: string, bytes: Uint8Array): Promise<Buffer> {
  const port = Number(/tcp\/(\d+)/.exec(addr)?.[1])
  return new Promise((resolve) => {
    const got: Buffer[] = []
    const socket = connect(port, '127.0.0.1', () => socket.write(bytes))
    socket.on('data', (data) => got.push(data))
    socket.on('error', () => {})
    socket.on('close', () => resolve(Buffer.concat(got)))
    setTimeout(() => socket.destroy(), 1_500)
  })
}

describe('a private network', () => {
  it('lets members in', async () => {
    const key = newKey()
    const a = await startMember(key)
    const b = await startMember(key, a.bootstrap)
    await eventually(() => b.node.isConnected(a.node.self.peerId), 3_000)
    const answer = await b.node.request(a.target, '/llm/test-echo/1', Uint8Array.of(1, 2), {
      signal,
      maxResponseBytes: 9,
    })
    expect([...answer]).toEqual([1, 2])
  })

  it('gives no protocol to those without the key, or with another one', async () => {
    const a = await startMember()
    const open = await startPeer(cleanup, { network: 'closed', transports: ['tcp', 'quic'] })
    const other = await startMember()
    for (const outsider of [open, other]) {
      await expect(outsider.node.connect(a.target, { signal })).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' })
      await expect(a.node.connect(outsider.target, { signal })).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' })
    }
    expect(a.node.connections()).toEqual([])
  })

  it('does not listen on QUIC, which has no gate', async () => {
    const a = await startMember()
    expect(a.target.addrs).toHaveLength(1)
    expect(a.target.addrs[0]).toContain('/tcp/')
  })

  it('lets nobody in through a relay, neither its own nor a foreign one', async () => {
    const key = newKey()
    const network = networkVersion('closed', key.reveal())
    const own = { network, preSharedKey: key, transports: ['tcp', 'quic'] as const }
    const relay = await startPeer(cleanup, { ...own, vouched: true, relay: relayLimits.bootstrap })
    const hidden = await startPeer(cleanup, { ...own, bootstrap: relay.bootstrap })
    const addrs = await eventually(() => {
      const relayed = hidden.node.self.addrs().filter((addr) => addr.includes('/p2p-circuit'))
      return relayed.length > 0 && relayed
    }, 5_000)
    const target = { peerId: hidden.node.self.peerId, addrs }
    const outsider = await startPeer(cleanup, { network: 'closed', transports: ['tcp', 'quic'] })
    await expect(outsider.node.connect(target, { signal })).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' })
    // An open relay takes no member in, so nothing leads from there to one.
    const open = await startPeer(cleanup, { vouched: true, relay: relayLimits.bootstrap })
    await expect(hidden.node.meet(open.bootstrap[0] ?? '', { signal })).rejects.toMatchObject({
      code: 'PEER_UNREACHABLE',
    })
    // The same way is open to a member, with the key on both legs: the check above can fail.
    const member = await startPeer(cleanup, { ...own })
    await member.node.connect(target, { signal })
    expect(member.node.connectionTo(hidden.node.self.peerId)?.transport).toBe('relay')
    expect(relay.node.connections().some(({ peerId }) => peerId === outsider.node.self.peerId)).toBe(false)
  })

  it('says nothing that a socket could read', async () => {
    const a = await startMember()
    const hello = Buffer.from('\x13/multistream/1.0.0\n')
    const nonce = randomBytes(24)
    const answers = [
      await talk(a.target.addrs[0] ?? '', hello),
      await talk(a.target.addrs[0] ?? '', Buffer.concat([nonce, hello])),
    ]
    for (const answer of answers) {
      expect(answer.includes('multistream')).toBe(false)
      // Its nonce and, enciphered, at most one first line.
      expect(answer.length).toBeLessThan(100)
    }
    // The same hello in an open network is answered: the check above can fail.
    const open = await startPeer(cleanup)
    expect((await talk(open.target.addrs[0] ?? '', hello)).includes('multistream')).toBe(true)
  })
})

describe('joining', () => {
  const newHome = async () => locateHome(join(await temporaryFolder(cleanup), 'home'), {})

  it('takes network, key and addresses over from an invite', async () => {
    const [anna, ben] = [await newHome(), await newHome()]
    await foundNetwork(anna, 'annas', { private: true })
    const peer = await startPeer(cleanup)
    expect(await addBootstrap(anna, peer.bootstrap[0] ?? '')).toBe(true)
    expect(await addBootstrap(anna, peer.bootstrap[0] ?? '')).toBe(false)
    const { line } = await inviteOf(anna, undefined)
    expect(await joinNetwork(ben, line)).toMatchObject({ network: 'annas', private: true, bootstrap: peer.bootstrap })
    const [a, b] = await Promise.all(
      [anna, ben].map(async (home) => resolveNetwork(home, await loadConfig(home, { env: {} }))),
    )
    expect(b?.version).toBe(a?.version)
    expect(b?.version).toMatch(/^annas#[0-9a-f]{16}$/)
    expect((await stat(join(ben.keysFolder, 'networks.json'))).mode & 0o777).toBe(0o600)
    await removeBootstrap(ben, peer.bootstrap[0] ?? '')
    expect(await listBootstrap(ben)).toEqual([])
    await expect(removeBootstrap(ben, peer.bootstrap[0] ?? '')).rejects.toMatchObject({ code: 'BAD_INPUT' })
    await expect(addBootstrap(ben, 'nonsense')).rejects.toMatchObject({ code: 'BAD_INPUT' })
  })

  it('refuses a network that needs a newer program, and names the command that updates it', async () => {
    const [anna, ben] = [await newHome(), await newHome()]
    await foundNetwork(anna, 'annas', { private: false })
    await setSetting(anna, 'network.minVersion', '0.0.1')
    const { line } = await inviteOf(anna, undefined)
    expect(await joinNetwork(ben, line)).toMatchObject({ minVersion: '0.0.1' })
    expect((await loadConfig(ben, { env: {} })).network.minVersion).toBe('0.0.1')
    await setSetting(ben, 'network.minVersion', '99.0.0')
    const config = await loadConfig(ben, { env: {} })
    const newer = encodeInvite({ network: 'annas', bootstrap: [], minVersion: '99.0.0' })
    for (const attempt of [() => resolveNetwork(ben, config), async () => joinNetwork(await newHome(), newer)]) {
      await expect(attempt()).rejects.toMatchObject({
        code: 'VERSION_TOO_OLD',
        hint: expect.stringContaining('npm install --global llm-node@latest'),
      })
    }
    await expect(setSetting(ben, 'network.minVersion', 'new')).rejects.toMatchObject({ code: 'BAD_CONFIG' })
  })

  it('never falls back to an open network of the same name', async () => {
    const home = await newHome()
    await foundNetwork(home, 'closed', { private: true })
    const config = await loadConfig(home, { env: {}, overrides: { network: { name: 'elsewhere' } } })
    await expect(resolveNetwork(home, config)).rejects.toMatchObject({ code: 'BAD_CONFIG' })
  })

  it('changes nothing when the invite is no good', async () => {
    const home = await newHome()
    await expect(joinNetwork(home, 'llm-invite:AAAA')).rejects.toMatchObject({ code: 'BAD_INPUT' })
    await expect(foundNetwork(home, 'Not A Name', { private: true })).rejects.toMatchObject({ code: 'BAD_INPUT' })
    expect((await loadConfig(home, { env: {} })).network.name).toBe('llm-node')
  })
})
