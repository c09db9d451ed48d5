/** Keys as people handle them, through the program itself: nothing that it prints or keeps in the open is a secret. */
import { execFile } from 'node:child_process'
import { readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { inspect, promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { p2pLimits } from '../../src/base/limits.ts'
import { createSecret } from '../../src/base/secret.ts'
import { locateHome } from '../../src/node/home.ts'
import { saveNetworkKey } from '../../src/node/networks.ts'
import { loadOrCreateIdentity } from '../../src/p2p/identity.ts'
import { openKeyFiles } from '../../src/p2p/key-files.ts'
import { openSealed, sealedSchema, sealWithPassword } from '../../src/p2p/sealed-secret.ts'
import { createCleanup, temporaryFolder } from './p2p-helpers.ts'

const run = promisify(execFile)
const cleanup = createCleanup()
let home = ''
let output = ''
beforeEach(async () => {
  home = await temporaryFolder(cleanup)
  output = ''
})
afterEach(() => cleanup.run())

const PASSWORD = 'four words of mine'

/** What the program answers; everything that it prints is noted. */
async function id(args: readonly string[], options: { home?: string; env?: Record<string, string> } = {}) {
  const all = ['src/cli/main.ts', 'id', ...args, '--home', options.home ?? home, '--json', '--debug']
  try {
    const { stdout, stderr } = await run(process.execPath, all, { env: { ...process.env, ...options.env } })
    output += stdout + stderr
    return JSON.parse(stdout)
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string }
    output += stdout + stderr
    return JSON.parse(stdout || '{}')
  }
}
const stored = async (name: string, folder = home) => JSON.parse(await readFile(join(folder, 'keys', name), 'utf8'))
const secretsOf = async () => {
  const [address, transport, onion] = [
    await stored('address.json'),
    await stored('transport.json'),
    await stored('onion.json'),
  ]
  return [address.seed, transport.private, onion.current.private, onion.previous?.private].filter(Boolean) as string[]
}

test('rotated, exported, taken over elsewhere: the same address, and no secret in sight', async () => {
  const made = await id([])
  const before = await stored('onion.json')
  expect(await id(['rotate'])).toMatchObject({ address: made.address })
  const after = await stored('onion.json')
  expect(after.previous).toEqual(before.current)
  expect(after.current.private).not.toBe(before.current.private)

  const file = join(home, 'mine.json')
  await id(['export', file], { env: { LLM_NODE_NEW_PASSWORD: PASSWORD } })
  expect((await stat(file)).mode & 0o777).toBe(0o600)
  const other = await temporaryFolder(cleanup)
  const wrong = await id(['import', file], { home: other, env: { LLM_NODE_NEW_PASSWORD: 'something else' } })
  expect(wrong.error.code).toBe('AUTH_FAILED')
  const taken = await id(['import', file], { home: other, env: { LLM_NODE_NEW_PASSWORD: PASSWORD } })
  expect(taken).toMatchObject({ address: made.address, peerId: made.peerId })
  const again = await id(['import', file], { home: other, env: { LLM_NODE_NEW_PASSWORD: PASSWORD } })
  expect(again.error.code).toBe('HOME_UNUSABLE')

  const secrets = await secretsOf()
  expect(secrets).toHaveLength(4)
  const exported = await readFile(file, 'utf8')
  const identity = await loadOrCreateIdentity(join(home, 'keys'), { nowMs: Date.now() })
  const shown = output + exported + inspect(identity, { depth: 9, showHidden: true }) + JSON.stringify(identity)
  for (const secret of secrets) {
    const base64 = Buffer.from(secret, 'hex').toString('base64')
    for (const form of [secret, secret.toUpperCase(), base64]) expect(shown).not.toContain(form)
  }
})

test('a password keeps every key from who only has the files', async () => {
  const made = await id([])
  await id(['rotate'])
  await saveNetworkKey(locateHome(home, {}), 'friends', createSecret(new Uint8Array(32).fill(0xab)))
  const secrets = [...(await secretsOf()), 'ab'.repeat(32)]
  expect(secrets).toHaveLength(5)
  const env = { LLM_NODE_NEW_PASSWORD: PASSWORD, LLM_NODE_KEY_PASSWORD: PASSWORD }
  const inFiles = async () => {
    const texts = await Promise.all(
      (await readdir(join(home, 'keys'))).map((name) => readFile(join(home, 'keys', name), 'utf8')),
    )
    return secrets.filter((secret) => texts.some((text) => text.includes(secret))).length
  }
  expect(await inFiles()).toBe(5)
  expect((await id(['protect'], { env: { LLM_NODE_NEW_PASSWORD: 'short' } })).error.code).toBe('BAD_INPUT')
  expect(await inFiles()).toBe(5)
  expect(await id(['protect'], { env })).toMatchObject({ protected: true })
  expect(await inFiles()).toBe(0)
  for (const name of await readdir(join(home, 'keys'))) {
    expect((await stat(join(home, 'keys', name))).mode & 0o777, name).toBe(0o600)
  }
  expect((await id([])).error).toMatchObject({
    code: 'AUTH_FAILED',
    hint: expect.stringContaining('LLM_NODE_KEY_PASSWORD'),
  })
  expect((await id([], { env: { LLM_NODE_KEY_PASSWORD: 'something else' } })).error.code).toBe('AUTH_FAILED')
  expect(await id([], { env })).toMatchObject({ address: made.address, peerId: made.peerId })
  expect((await id(['rotate'], { env })).address).toBe(made.address)
  expect(await inFiles()).toBe(0)

  // Another password: the first one is of no use any more.
  const other = { LLM_NODE_NEW_PASSWORD: 'another four words', LLM_NODE_KEY_PASSWORD: PASSWORD }
  expect(await id(['protect'], { env: other })).toMatchObject({ protected: true })
  expect((await id([], { env })).error.code).toBe('AUTH_FAILED')
  const current = { LLM_NODE_KEY_PASSWORD: 'another four words' }
  expect(await id(['protect', '--off'], { env: current })).toMatchObject({ protected: false })
  expect(await id([])).toMatchObject({ address: made.address, peerId: made.peerId })
  expect((await stored('networks.json')).keys).toEqual([{ name: 'friends', key: 'ab'.repeat(32) }])
  for (const secret of secrets) expect(output).not.toContain(secret)
})

test('a protection that was broken off is completed, and no box stands in for another', async () => {
  await id([])
  const keys = (name: string) => join(home, 'keys', name)
  const plain = await readFile(keys('onion.json'), 'utf8')
  const files = await openKeyFiles(join(home, 'keys'), undefined)
  await files.protect(PASSWORD)
  await writeFile(keys('onion.json'), plain)
  await loadOrCreateIdentity(join(home, 'keys'), { nowMs: Date.now(), password: PASSWORD })
  expect(await readFile(keys('onion.json'), 'utf8')).toContain('"box"')

  await writeFile(keys('address.json'), await readFile(keys('onion.json')))
  const load = () => loadOrCreateIdentity(join(home, 'keys'), { nowMs: Date.now(), password: PASSWORD })
  await expect(load()).rejects.toMatchObject({
    code: 'HOME_UNUSABLE',
    message: expect.stringContaining('address.json'),
  })
  await rm(keys('lock.json'))
  await expect(load()).rejects.toMatchObject({ code: 'HOME_UNUSABLE', message: expect.stringContaining('lock.json') })
})

describe('a sealed secret', () => {
  test('any changed field is refused, and a work factor beyond the bounds before it is computed', async () => {
    const secret = Uint8Array.of(1, 2, 3)
    const sealed = await sealWithPassword(secret, PASSWORD)
    expect(new Uint8Array(await openSealed(sealed, PASSWORD))).toEqual(secret)
    const flipped = (text: string) => (text.startsWith('0') ? '1' : '0') + text.slice(1)
    for (const name of ['salt', 'nonce', 'data'] as const) {
      await expect(openSealed({ ...sealed, [name]: flipped(sealed[name]) }, PASSWORD)).rejects.toThrow(/password/)
    }
    for (const n of [p2pLimits.scryptMinN / 2, p2pLimits.scryptMaxN * 2, 2 ** 40, p2pLimits.scryptN + 1, 0, -1]) {
      expect(sealedSchema.safeParse({ ...sealed, n }).success).toBe(false)
    }
  })

  test('no exported file', async () => {
    const file = join(home, 'no.json')
    for (const text of [
      '',
      '{',
      '[]',
      '{"format":"llm-node identity","version":1}',
      'x'.repeat(p2pLimits.exportBytes + 1),
    ]) {
      await writeFile(file, text)
      expect((await id(['import', file], { env: { LLM_NODE_NEW_PASSWORD: PASSWORD } })).error.code).toBe('BAD_INPUT')
    }
  })
})
