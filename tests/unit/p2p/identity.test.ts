import { createHash } from 'node:crypto'
import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { privateKeyFromProtobuf } from '@libp2p/crypto/keys'
import { ed25519, x25519 } from '@noble/curves/ed25519.js'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { toHex, utf8 } from '../../../src/base/bytes.ts'
import { loadOrCreateIdentity } from '../../../src/p2p/identity.ts'
import { mdnsServiceTag, networkTag, networkVersion } from '../../../src/p2p/network.ts'

const DAY = 86_400_000
const nowMs = 1_800_000_000_000
let folder = ''
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'llm-identity-'))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

describe('identity', () => {
  it('is made once and found again, in files for this user only', async () => {
    const first = await loadOrCreateIdentity(join(folder, 'keys'), { nowMs })
    const second = await loadOrCreateIdentity(join(folder, 'keys'), { nowMs: nowMs + 1 })
    expect(second.address).toBe(first.address)
    expect(second.peerId).toBe(first.peerId)
    expect(second.onionKeys(nowMs)[0].publicKey).toEqual(first.onionKeys(nowMs)[0].publicKey)
    const files = await readdir(join(folder, 'keys'))
    expect(files.sort()).toEqual(['address.json', 'onion.json', 'transport.json'])
    for (const file of files) expect((await stat(join(folder, 'keys', file))).mode & 0o777).toBe(0o600)
  })

  it('signs with the address key, which is not the transport key', async () => {
    const identity = await loadOrCreateIdentity(folder, { nowMs })
    const message = utf8('hello')
    expect(ed25519.verify(identity.sign(message), message, identity.addressKey, { zip215: false })).toBe(true)
    const transport = privateKeyFromProtobuf(identity.transportKey.reveal())
    expect(transport.publicKey.raw).not.toEqual(identity.addressKey)
  })

  it('holds onion keys whose private part fits', async () => {
    const identity = await loadOrCreateIdentity(folder, { nowMs })
    const [pair] = identity.onionKeys(nowMs)
    const other = x25519.keygen()
    expect(x25519.getSharedSecret(pair.privateKey.reveal(), other.publicKey)).toEqual(
      x25519.getSharedSecret(other.secretKey, pair.publicKey),
    )
  })

  it('changes the onion key weekly and answers the old one for a day more', async () => {
    const identity = await loadOrCreateIdentity(folder, { nowMs })
    const [old] = identity.onionKeys(nowMs)
    expect(await identity.rotateOnionKey(nowMs + 7 * DAY - 1)).toBe(false)
    expect(await identity.rotateOnionKey(nowMs + 7 * DAY)).toBe(true)
    const [current, previous] = identity.onionKeys(nowMs + 8 * DAY - 1)
    expect(current.publicKey).not.toEqual(old.publicKey)
    expect(previous?.publicKey).toEqual(old.publicKey)
    expect(identity.onionKeys(nowMs + 8 * DAY)).toHaveLength(1)
    const again = await loadOrCreateIdentity(folder, { nowMs: nowMs + 7 * DAY + 5 })
    expect(again.onionKeys(nowMs + 7 * DAY + 5).map((key) => toHex(key.publicKey))).toEqual(
      [current, old].map((key) => toHex(key.publicKey)),
    )
  })

  it('forgets a key that is no longer answered, on the disk and in memory', async () => {
    const identity = await loadOrCreateIdentity(folder, { nowMs })
    const stored = async () => JSON.parse(await readFile(join(folder, 'onion.json'), 'utf8'))
    await identity.rotateOnionKey(nowMs + 7 * DAY)
    const [current, previous] = identity.onionKeys(nowMs + 7 * DAY)
    expect(await identity.rotateOnionKey(nowMs + 8 * DAY - 1)).toBe(false)
    expect((await stored()).previous).not.toBeNull()
    expect(await identity.rotateOnionKey(nowMs + 8 * DAY)).toBe(false)
    expect((await stored()).previous).toBeNull()
    expect(previous?.privateKey.reveal().every((byte) => byte === 0)).toBe(true)
    expect(current.privateKey.reveal().some((byte) => byte !== 0)).toBe(true)
    expect(identity.onionKeys(nowMs + 8 * DAY)[0].publicKey).toEqual(current.publicKey)
  })

  it('rotates at load when a week has passed, and when the clock was set back by years', async () => {
    const first = await loadOrCreateIdentity(folder, { nowMs })
    const later = await loadOrCreateIdentity(folder, { nowMs: nowMs + 30 * DAY })
    expect(later.onionKeys(nowMs + 30 * DAY)[0].publicKey).not.toEqual(first.onionKeys(nowMs)[0].publicKey)
    const back = await loadOrCreateIdentity(folder, { nowMs: nowMs - 400 * DAY })
    expect(back.onionKeys(nowMs - 400 * DAY)[0].publicKey).not.toEqual(later.onionKeys(nowMs)[0].publicKey)
  })

  it('prints no secret', async () => {
    const identity = await loadOrCreateIdentity(folder, { nowMs })
    const { seed } = JSON.parse(await readFile(join(folder, 'address.json'), 'utf8')) as { seed: string }
    const shown = [
      inspect(identity, { depth: 9, showHidden: true }),
      JSON.stringify(identity),
      `${identity.transportKey}`,
    ]
    expect(shown[0]).toContain('[secret]')
    expect(shown[1]).toContain('[secret]')
    expect(shown[2]).toBe('[secret]')
    const transportHex = toHex(identity.transportKey.reveal())
    for (const text of shown) {
      expect(text).not.toContain(seed)
      expect(text).not.toContain(transportHex)
    }
  })

  it.each(['address.json', 'transport.json', 'onion.json'])(
    'refuses a damaged %s and leaves it alone',
    async (file) => {
      await loadOrCreateIdentity(folder, { nowMs })
      for (const damage of [
        '',
        '{"version":1',
        '{"version":1,"seed":"00"}',
        '{"version":1,"private":"00112233445566778899aabbccddeeff"}',
      ]) {
        await writeFile(join(folder, file), damage)
        await expect(loadOrCreateIdentity(folder, { nowMs })).rejects.toMatchObject({
          code: 'HOME_UNUSABLE',
          message: expect.stringContaining(file),
          hint: expect.stringContaining('backup'),
        })
        expect(await readFile(join(folder, file), 'utf8')).toBe(damage)
      }
    },
  )

  it('closes key files that others may read', async () => {
    await loadOrCreateIdentity(folder, { nowMs })
    await chmod(join(folder, 'address.json'), 0o644)
    await loadOrCreateIdentity(folder, { nowMs })
    expect((await stat(join(folder, 'address.json'))).mode & 0o777).toBe(0o600)
  })

  it('refuses a folder that is a file', async () => {
    await writeFile(join(folder, 'plain'), '')
    await expect(loadOrCreateIdentity(join(folder, 'plain'), { nowMs })).rejects.toMatchObject({
      code: 'HOME_UNUSABLE',
    })
  })
})

describe('network', () => {
  it('separates networks in every tag', () => {
    expect(networkVersion('home')).toBe('home')
    expect(networkVersion('home', utf8('key'))).toMatch(/^home#[0-9a-f]{16}$/)
    expect(mdnsServiceTag('home')).toMatch(/^_llm-node-[0-9a-f]{10}\._udp\.local$/)
    const long = `${'x'.repeat(400)}ß`
    expect(
      mdnsServiceTag(long)
        .split('.')
        .every((label) => label.length <= 63),
    ).toBe(true)
    expect(new Set(['a', 'b', 'a#b', 'a#'].map(mdnsServiceTag)).size).toBe(4)
    const expected = createHash('sha256').update('llm network v1\0\0\0\0\0\0\0\u0004home').digest('hex').slice(0, 16)
    expect(toHex(networkTag('home'))).toBe(expected)
  })
})
