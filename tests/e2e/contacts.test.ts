/** Names for addresses, as a user gives and checks them: the real program, its words and exit codes. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { IdentityDescription } from '../../src/node/identity.ts'
import { readQr } from '../helpers/read-qr.ts'
import { createSandbox, runCli, runJson, type Sandbox } from './cli.ts'

let sandbox: Sandbox
let mine: string[]
let [anna, other]: IdentityDescription[] = []

beforeAll(async () => {
  sandbox = await createSandbox()
  mine = ['--home', sandbox.home('mine')]
  const idOf = (name: string) => runJson<IdentityDescription>(['id', '--home', sandbox.home(name)])
  ;[anna, other] = await Promise.all(['anna', 'other'].map(idOf))
})
afterAll(() => sandbox?.close())

test('an address as a QR code in the terminal is the address', async () => {
  const { code, stdout } = await runCli(['id', '--home', sandbox.home('anna'), '--qr'])
  expect(code).toBe(0)
  expect(stdout).toContain(anna?.safetyNumber)
  const drawn = stdout.split('\n').filter((line) => /[█▀▄]/.test(line))
  expect(readQr(drawn)).toBe(`llm://${anna?.address}`)
})

test('a name is bound to its first address; another one is refused, and warned of when it is meant', async () => {
  const hint = '/ip4/192.0.2.7/tcp/5561'
  const first = await runCli(['contacts', 'add', 'Anna', `llm://${anna?.address}?a=${hint}`, ...mine])
  expect(first).toMatchObject({ code: 0, stdout: expect.stringContaining(anna?.safetyNumber ?? '?') })
  const posing = ['contacts', 'add', 'anna', other?.address ?? '', ...mine]
  const refused = await runCli(posing)
  expect(refused.code).not.toBe(0)
  expect(refused.stderr).toMatch(/posing as Anna/)
  expect(refused.stderr).toMatch(/CONTACT_CHANGED/)
  const alike = await runCli(['contacts', 'add', '\u0410nna', other?.address ?? '', ...mine])
  expect(alike.code).toBe(0)
  expect(alike.stderr).toMatch(/WARNING: \u0410nna looks like Anna/)
  expect((await runCli(['contacts', 'rm', '\u0410nna', ...mine])).code).toBe(0)
  const replaced = await runCli([...posing, '--replace'])
  expect(replaced.code).toBe(0)
  expect(replaced.stderr).toContain(`WARNING: The address of Anna was ${anna?.address} until now.`)
})

test('a safety number that agrees is remembered, another one is not', async () => {
  const verify = (number: string) => runCli(['contacts', 'verify', 'anna', '--number', number, ...mine])
  const wrong = await verify(anna?.safetyNumber ?? '')
  expect(wrong.code).toBe(5)
  expect(wrong.stdout).toMatch(/NOT verified/)
  expect(await verify((other?.safetyNumber ?? '').replaceAll(' ', '-'))).toMatchObject({ code: 0 })
  const { contacts } = await runJson<{ contacts: { verified: boolean }[] }>(['contacts', 'ls', ...mine])
  expect(contacts.map(({ verified }) => verified)).toEqual([true])
})
