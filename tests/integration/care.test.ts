/** A running node that looks after itself: real nodes on loopback, real layers; only the waiting is shortened. */
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, expect, test } from 'vitest'
import type { AskResult } from '../../src/api/types.ts'
import { parseConfig } from '../../src/base/config.ts'
import { silentLogger } from '../../src/base/logger.ts'
import { loadConfig, locateHome, prepareHome } from '../../src/node/home.ts'
import { bundledModel } from '../../src/node/model-source.ts'
import { createNode, type LlmNode } from '../../src/node/node.ts'
import { setupModel } from '../../src/node/setup.ts'
import { createCleanup, eventually, temporaryFolder } from './p2p-helpers.ts'

const cleanup = createCleanup()
afterEach(() => cleanup.run())

const goldenModel = fileURLToPath(new URL('../golden/qwen3-tied-bf16', import.meta.url))
const HOUR_MS = 3_600_000

function createClock() {
  let passedMs = 0
  return {
    nowMs: () => Date.now() + passedMs,
    monotonicMs: () => performance.now() + passedMs,
    pass(ms: number) {
      passedMs += ms
    },
  }
}

interface What {
  readonly layers: string
  readonly ends?: boolean
  readonly pinned?: boolean
  readonly meet?: readonly LlmNode[]
  readonly care?: object
}

async function start({ layers, ends = false, pinned = false, meet = [], care = {} }: What) {
  const home = locateHome(join(await temporaryFolder(cleanup), 'home'), {})
  await prepareHome(home)
  const signal = AbortSignal.timeout(30_000)
  const model = { model: bundledModel(), layers, ends, recipe: 'f32', pinned, signal } as const
  await setupModel(home, parseConfig({ care }), model)
  const bootstrap = meet.flatMap((node) => node.listening().slice(0, 1))
  const overrides = {
    network: { name: 'care-test', mdns: false, host: '127.0.0.1', port: 0, bootstrap },
    engine: { threads: 1, kvMiB: 64 },
  }
  const clock = createClock()
  const node = await createNode(
    { home, env: {}, overrides },
    { logger: silentLogger, care: { clock, random: () => 0.5 } },
  )
  cleanup.add(() => node.stop())
  await node.start()
  return { node, home, clock }
}

const heldBy = (node: LlmNode) => node.control.status().models[0]?.layers
const completeFor = (node: LlmNode) => eventually(() => node.control.coverage().models[0]?.complete, 5_000)

async function answer(node: LlmNode): Promise<AskResult> {
  const request = { prompt: 'A swarm', temperature: 0, maxTokens: 120, ignoreEnd: true }
  for await (const event of node.ask(request, AbortSignal.timeout(60_000))) {
    if (event.type === 'done') return event.result
    if (event.type === 'error') throw new Error(event.error.message)
  }
  throw new Error('no answer')
}

test('a node leaves layers that others hold for those that nobody holds; one that was told what to hold stays', async () => {
  const told = await start({ layers: '0-5', pinned: true })
  const free = await start({ layers: '0-5', meet: [told.node] })
  await eventually(() => free.node.control.coverage().models[0]?.holders.length === 2, 5_000)
  const [own] = free.node.control.usage().models
  expect(own?.peers).toEqual([
    { address: told.node.address, used: false, reason: 'Layers 6-11 of the model are held by nobody.' },
  ])
  for (const { node, clock } of [told, free]) {
    clock.pass(60_000)
    // Decided now, made after a random while, and decided anew then.
    await node.care.look()
    expect(heldBy(node)).toEqual({ start: 0, end: 6 })
    clock.pass(120_000)
    await node.care.look()
  }
  expect(heldBy(told.node)).toEqual({ start: 0, end: 6 })
  expect(heldBy(free.node)?.end).toBe(12)
  await completeFor(told.node)
  const { models } = await loadConfig(free.home, { env: {} })
  expect(models[0]).toMatchObject({ layers: expect.stringMatching(/-11$/), pinned: false })
})

test('an answer that runs through a node which moves is not disturbed', async () => {
  const all = await start({ layers: '0-11', pinned: true })
  const mover = await start({ layers: '0-5', meet: [all.node] })
  const asker = await start({ layers: 'none', ends: true, meet: [all.node, mover.node] })
  await completeFor(asker.node)
  const undisturbed = await answer(asker.node)
  const [disturbed] = await Promise.all([
    answer(asker.node),
    (async () => {
      mover.clock.pass(HOUR_MS + 60_000)
      await mover.node.care.look()
      mover.clock.pass(120_000)
      await mover.node.care.look()
    })(),
  ])
  expect(heldBy(mover.node)).not.toEqual({ start: 0, end: 6 })
  expect(disturbed.tokens).toEqual(undisturbed.tokens)
  expect(disturbed.failovers).toBe(0)
})

test('a paused node serves nobody, says why, and serves again', async () => {
  const { node } = await start({ layers: '0-11' })
  const asker = await start({ layers: 'none', ends: true, meet: [node] })
  await completeFor(asker.node)
  expect((await node.control.pause(true)).paused).toContain('llm-node resume')
  await eventually(() => asker.node.control.coverage().models[0]?.complete === false, 5_000)
  await expect(answer(asker.node)).rejects.toThrow(/held by nobody|serves/)
  expect(node.control.status().health.some(({ text }) => text.includes('Serves nobody now'))).toBe(true)
  expect((await node.control.pause(false)).paused).toBeNull()
  await completeFor(asker.node)
  expect((await answer(asker.node)).tokens).toHaveLength(120)
})

test('outside its hours a node serves nobody from the start', async () => {
  const now = new Date()
  const hour = (offset: number) => `${String((now.getHours() + offset) % 24).padStart(2, '0')}:00`
  const { node } = await start({ layers: '0-1', care: { hours: `${hour(2)}-${hour(3)}` } })
  expect(node.control.status().paused).toContain('outside its hours')
})

test('short of memory, an idle model makes room; a pinned one never', async () => {
  const home = locateHome(join(await temporaryFolder(cleanup), 'home'), {})
  await prepareHome(home)
  const signal = AbortSignal.timeout(30_000)
  const base = { model: bundledModel(), layers: '0-1', ends: false, signal } as const
  await setupModel(home, parseConfig({}), { ...base, recipe: 'f32', pinned: true })
  const other = { ...base, model: goldenModel, recipe: 'q8' } as const
  await setupModel(home, await loadConfig(home, { env: {} }), other)
  const clock = createClock()
  let freeBytes = 1e9
  const detect = async () => ({
    cpu: { model: null, cores: 1, features: new Set<string>() },
    memory: { totalBytes: 4e9, freeBytes, limitedBy: 'machine' as const },
    disk: null,
    gpus: [],
    battery: null,
  })
  const overrides = { network: { name: 'care-test', mdns: false, host: '127.0.0.1', port: 0 }, engine: { kvMiB: 16 } }
  const node = await createNode({ home, env: {}, overrides }, { logger: silentLogger, care: { clock, detect } })
  cleanup.add(() => node.stop())
  await node.start()
  const recipes = () => node.control.status().models.map(({ recipe }) => recipe)
  expect(recipes()).toEqual(['f32/1', 'q8/1'])
  freeBytes = 0.1e9
  await node.care.look()
  expect(recipes()).toEqual(['f32/1', 'q8/1'])
  clock.pass(700_000)
  await node.care.look()
  expect(recipes()).toEqual(['f32/1'])
  expect(node.control.status().health.map(({ text }) => text)).toContainEqual(
    expect.stringContaining('Memory was short'),
  )
  clock.pass(700_000)
  await node.care.look()
  expect(recipes()).toEqual(['f32/1'])
})
