/** Every command in the blocks of the documents for users is run, in their order, on a node of this test. */
import { cp, mkdir, readFile, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest'
import { createFileServer, type FileServer } from '../../src/shard/file-server.ts'
import { createSandbox, demoModel, runCli, type Sandbox, spawnCli } from '../e2e/cli.ts'

let sandbox: Sandbox
let mirror: FileServer

beforeAll(async () => {
  sandbox = await createSandbox()
  // A server that has the demo model under the name that the documents use for any repository.
  const root = await sandbox.folder('mirror')
  await mkdir(join(root, 'ORG', 'NAME', 'resolve'), { recursive: true })
  await cp(demoModel, join(root, 'ORG', 'NAME', 'resolve', 'main'), { recursive: true })
  mirror = await createFileServer({ root })
})

afterAll(async () => {
  await mirror?.close()
  await sandbox?.close()
})

interface Shown {
  readonly line: string
  readonly words: readonly string[]
}

/** Lines of code blocks that begin with "llm-node ". */
async function commandsOf(document: string): Promise<Shown[]> {
  const text = await readFile(fileURLToPath(new URL(`../../docs/${document}.md`, import.meta.url)), 'utf8')
  const blocks = [...text.matchAll(/^```\n([\s\S]*?)^```/gm)].map(([, block]) => block ?? '')
  const lines = blocks.flatMap((block) => block.split('\n')).filter((line) => line.startsWith('llm-node '))
  return lines.map((line) => {
    const words = [...line.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain ?? '')
    return { line, words: words.slice(1) }
  })
}

/** Commands that go on until they are told to end. */
const endless = ['start', 'status --watch', 'logs -f', 'setup --web']
/** Findings are no failure of the command. */
const mayFind: Readonly<Record<string, readonly number[]>> = { doctor: [0, 1, 3, 5], netcheck: [0, 5], models: [0, 4] }

test.each(['guide', 'operations', 'troubleshooting'])('%s.md: every command works as shown', async (document) => {
  const home = await sandbox.folder(document)
  await symlink(demoModel, join(home, 'demo'))
  const env = {
    LLM_NODE_HOME: home,
    HF_ENDPOINT: mirror.url.replace(/\/$/, ''),
    LLM_NODE_MDNS: 'false',
    LLM_NODE_NETWORK: `docs-${document}`,
    LLM_NODE_API_PORT: '0',
    LLM_NODE_THREADS: '1',
    EDITOR: 'true',
    VISUAL: '',
  }
  const run = (words: readonly string[]) => runCli(words, { env })
  if (document !== 'guide') await run(['setup', '--yes'])
  const isRunning = async () => (await run(['status'])).code === 0
  onTestFinished(async () => {
    if (await isRunning()) await run(['stop'])
  })
  for (const { line, words } of await commandsOf(document)) {
    const text = words.join(' ')
    const [verb = ''] = words
    if (verb === 'demo') continue
    if (
      ['ask', 'chat', 'sessions', 'status', 'peers', 'coverage', 'logs', 'stop', 'ping', 'web'].includes(verb) &&
      !(await isRunning())
    ) {
      expect((await run(['start', '--detach'])).code, `a node for ${line}`).toBe(0)
    }
    if ((verb === 'start' && words.includes('--detach')) || ['setup', 'models'].includes(verb)) {
      if (await isRunning()) await run(['stop'])
    }
    if (endless.includes(text)) {
      if (['start', 'setup'].includes(verb) && (await isRunning())) await run(['stop'])
      const child = sandbox.track(spawnCli(words, { env }))
      // A log may have nothing to say.
      if (verb === 'logs') await run(['status'])
      else await child.seen('\n')
      child.kill('SIGINT')
      expect([0, 130], line).toContain((await child.ended).code)
      continue
    }
    const { code, stdout, stderr } = await run(words)
    expect(mayFind[verb] ?? [0], `${line}\n${stdout}${stderr}`).toContain(code)
  }
})
