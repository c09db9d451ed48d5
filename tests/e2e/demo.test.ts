import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { AskResult } from '../../src/api/types.ts'
import type { DemoResult } from '../../src/node/demo/run.ts'
import {
  createSandbox,
  demoModel,
  expectedAnswer,
  isAlive,
  processesOf,
  runCli,
  runJson,
  type Sandbox,
  spawnCli,
  startNode,
} from './cli.ts'

const question = 'What is llm-node?'

async function withSandbox<T>(use: (sandbox: Sandbox) => Promise<T>): Promise<T> {
  const sandbox = await createSandbox()
  try {
    return await use(sandbox)
  } finally {
    await sandbox.close()
  }
}

/** Bytes of the tensors of layers `start` to `end` (inclusive), and of all headers, read from the files themselves. */
async function weightBytes(start: number, end: number): Promise<{ tensors: number; headers: number; files: number }> {
  const sum = { tensors: 0, headers: 0, files: 0 }
  for (const name of (await readdir(demoModel)).filter((name) => name.endsWith('.safetensors'))) {
    const bytes = await readFile(join(demoModel, name))
    const headerBytes = Number(bytes.readBigUInt64LE(0))
    sum.headers += 8 + headerBytes
    sum.files += bytes.length
    const header = JSON.parse(bytes.subarray(8, 8 + headerBytes).toString()) as Record<
      string,
      { data_offsets?: [number, number] }
    >
    for (const [tensor, { data_offsets: [from, to] = [0, 0] }] of Object.entries(header)) {
      const layer = Number(/^model\.layers\.(\d+)\./.exec(tensor)?.[1] ?? -1)
      if (layer >= start && layer <= end) sum.tensors += to - from
    }
  }
  return sum
}

test('demo: three processes answer as one does, each with its own layers, and nothing is left', async () => {
  await withSandbox(async (sandbox) => {
    const [tmp, user] = [await sandbox.folder('tmp'), await sandbox.folder('user')]
    const demo = await runJson<DemoResult & { schema: string }>(['demo'], {
      env: { TMPDIR: tmp, HOME: user, XDG_CACHE_HOME: '' },
    })

    const expected = await expectedAnswer(question)
    expect(demo.schema).toBe('llm-node/demo/1')
    expect(demo.text).toBe(expected.answer)
    expect(demo.tokens).toEqual(expected.answer_ids)
    expect(demo.single.tokens).toEqual(expected.answer_ids)
    expect(demo.identical).toBe(true)
    expect(demo.single.tokensPerSecond).toBeGreaterThan(0)
    expect(demo.pipeline.tokensPerSecond).toBeGreaterThan(0)
    expect(demo.pipeline.perHopOverheadMs).toBeTypeOf('number')
    expect(demo.pipeline.profile).toBe('direct')
    expect(demo.setupSeconds).toBeGreaterThan(0)

    expect(demo.nodes.map((node) => node.span)).toEqual([
      { start: 0, end: 4 },
      { start: 4, end: 8 },
      { start: 8, end: 12 },
    ])
    expect(new Set(demo.nodes.map((node) => node.pid)).size).toBe(3)
    expect(new Set(demo.nodes.map((node) => node.address)).size).toBe(3)
    for (const { address, span, bytesDownloaded, bytesOfModel } of demo.nodes) {
      expect(address).toMatch(/^[a-z2-7]{56}\.llm$/)
      const { tensors, headers, files } = await weightBytes(span.start, span.end - 1)
      expect(bytesOfModel).toBe(files)
      expect(bytesDownloaded).toBeGreaterThan(tensors)
      expect(bytesDownloaded).toBeLessThanOrEqual(1.05 * (tensors + headers))
    }

    expect(demo.nodes.filter((node) => isAlive(node.pid))).toEqual([])
    expect(await processesOf(tmp)).toEqual([])
    expect(await readdir(tmp)).toEqual([])
    // The program's own compiled code may stay; its parts leave nothing of theirs.
    expect(await readdir(join(user, '.cache'))).toEqual(['llm-node'])
  })
})

test.for([
  ['in the downloads', 'files are served'],
  ['while nodes start', 'Three nodes fetched'],
] as const)('demo: Ctrl-C %s ends it and everything that it began', async ([, text]) => {
  await withSandbox(async (sandbox) => {
    const [tmp, user] = [await sandbox.folder('tmp'), await sandbox.folder('user')]
    const demo = spawnCli(['demo'], { env: { TMPDIR: tmp, HOME: user, XDG_CACHE_HOME: '' } })
    await demo.seen(text)
    demo.kill('SIGINT')
    const interruptedMs = performance.now()
    const { code, stderr } = await demo.ended
    expect(performance.now() - interruptedMs).toBeLessThan(5_000)
    expect({ code, stderr }).toEqual({ code: 130, stderr: 'llm-node: Stopped on request. (ABORTED)\n' })
    expect(await processesOf(tmp)).toEqual([])
    expect(await readdir(tmp)).toEqual([])
  })
})

test('one flipped bit in one layer of one node shows in the logits of every step', async () => {
  await withSandbox(async (sandbox) => {
    const setup = (name: string, ...what: string[]) =>
      runJson(['setup', '--home', sandbox.home(name), '--model', demoModel, '--recipe', 'f32', ...what])
    await Promise.all([
      setup('first', '--layers', '0-5', '--no-ends'),
      setup('second', '--layers', '6-11', '--no-ends'),
      setup('entry', '--layers', 'none'),
      setup('single', '--layers', 'all'),
    ])
    const ask = async (name: string, ...how: string[]) => {
      const args = ['ask', question, '--home', sandbox.home(name), '--temperature', '0', '--logits-digest', ...how]
      const { logitsSha256 = [] } = await runJson<AskResult>([...args, '--threads', '1'])
      return logitsSha256
    }
    const local = ['--no-mdns', '--host', '127.0.0.1', '--port', '0']
    const start = async (name: string, ...how: string[]) =>
      sandbox.track(await startNode(sandbox.home(name), [...local, '--api-port', '0', '--threads', '1', ...how]))
    const first = await start('first')
    const meet = ['--bootstrap', first.listening[0] ?? '']
    const sound = await start('second', ...meet)

    const single = await ask('single', '--solo')
    expect(single.length).toBeGreaterThan(10)
    expect(await ask('entry', ...local, ...meet)).toEqual(single)

    expect((await runCli(['stop', '--home', sound.home])).code).toBe(0)
    await damage(join(sound.home, 'models', 'demo-qwen3-f32', 'layer-00007.f32-1.safetensors'))
    await start('second', '--no-verify', ...meet)
    const damaged = await ask('entry', ...local, ...meet)
    expect(damaged[0]).not.toBe(single[0])
    expect(damaged.filter((digest, step) => digest === single[step])).toEqual([])
  })
})

/** Flips one bit of the last weight in the file. */
async function damage(path: string): Promise<void> {
  const bytes = await readFile(path)
  const at = bytes.length - 2
  bytes[at] = (bytes[at] ?? 0) ^ 0x20
  await writeFile(path, bytes)
}
