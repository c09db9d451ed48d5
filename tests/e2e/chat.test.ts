/** `chat` on a real node: turns in one process, an answer that is stopped, a node that is not there. */
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createSandbox, expectedAnswer, runCli, runJson, type Sandbox, startNode } from './cli.ts'
import { openTerminal, terminalUnavailable } from './terminal.ts'

const entryPoint = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))
const unavailable = terminalUnavailable()
let sandbox: Sandbox
let home: string[]

beforeAll(async () => {
  sandbox = await createSandbox()
  home = ['--home', sandbox.home('node')]
  await runJson(['setup', ...home, '--layers', 'all', '--recipe', 'f32'])
  const flags = ['--no-mdns', '--host', '127.0.0.1', '--port', '0', '--api-port', '0', '--threads', '1']
  sandbox.track(await startNode(sandbox.home('node'), flags))
})

afterAll(() => sandbox?.close())

test('lines on stdin are turns of one chat', async () => {
  const { answer } = await expectedAnswer('What is llm-node?')
  const child = spawn(process.execPath, [entryPoint, 'chat', '--temperature', '0', ...home])
  let shown = ''
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    shown += chunk
  })
  child.stdin.end('What is llm-node?\n\n/new\nWhat is llm-node?\n')
  expect(await new Promise((resolve) => child.once('close', resolve))).toBe(0)
  expect(shown.split(answer.trim()).length).toBe(3)
})

test('without a node it says how to start one', async () => {
  const { code, stderr } = await runCli(['chat', '--home', sandbox.home('nobody')])
  expect(code).toBe(3)
  expect(stderr).toContain('llm-node start')
})

test.skipIf(unavailable !== null)(
  `in a terminal, Ctrl-D ends it${unavailable === null ? '' : ` (${unavailable})`}`,
  async () => {
    const terminal = await openTerminal(['chat', '--temperature', '0', ...home])
    try {
      await terminal.shows(/^>/m)
      await terminal.type('What is llm-node?')
      await terminal.press('Enter')
      await terminal.shows(/work together as a pipeline\.\s+>/)
      await terminal.press('C-d')
      await terminal.shows('ended 0')
    } finally {
      await terminal.close()
    }
  },
)
