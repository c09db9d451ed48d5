/** Plans for machines that are not this one: what fits, why, and what it costs. */
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { parseConfig } from '../../src/base/config.ts'
import type { LayerHolder } from '../../src/coverage/map.ts'
import { parseModelConfig } from '../../src/model/config.ts'
import type { Machine } from '../../src/node/detect.ts'
import { measureDownload, measureSpeed } from '../../src/node/machine-speed.ts'
import { assertHoldable, kvBudgetFor } from '../../src/node/memory-check.ts'
import { openSource } from '../../src/node/model-source.ts'
import { type Plan, type PlanSpeed, planFor } from '../../src/node/plan.ts'
import { type ModelSurvey, surveyModel } from '../../src/shard/survey.ts'

const demoModel = fileURLToPath(new URL('../../models/demo-qwen3', import.meta.url))
const survey = await surveyModel(await openSource(demoModel))
const MB = 1e6
const roomy: Machine = {
  cpu: { model: null, cores: 4, features: new Set() },
  memory: { totalBytes: 8_000 * MB, freeBytes: 6_000 * MB, limitedBy: 'machine' },
  disk: { totalBytes: 100_000 * MB, freeBytes: 50_000 * MB },
  gpus: [],
  battery: null,
}

function plan(
  what: {
    machine?: Machine
    holders?: readonly LayerHolder[]
    ends?: boolean
    sourceId?: string
    survey?: ModelSurvey
    speed?: PlanSpeed | null
  } = {},
): Plan {
  const glance = { peers: what.holders?.length ?? 0, holders: new Map([['f32/1', what.holders ?? []]]) }
  const { machine = roomy, ends = false, sourceId = '/models/demo-qwen3' } = what
  return planFor({ survey, glance, machine, recipe: 'f32', ends, sourceId, speed: what.speed ?? null })
}

function limited(totalMb: number): Machine {
  return { ...roomy, memory: { totalBytes: totalMb * MB, freeBytes: totalMb * MB, limitedBy: 'cgroup' } }
}

const peer = (address: string, start: number, end: number): LayerHolder => ({
  address,
  span: { start, end },
  state: 'online',
  numericsClass: '',
  decodeMs: 1,
  freeKvTokens: 4_096,
  relayed: false,
  rttMs: 10,
  neighbourRttMs: new Map(),
})

test('alone with room: everything, at no cost of time from a folder', () => {
  const { fit, recommended, swarm } = plan()
  expect(fit).toEqual({ layers: 12, limitedBy: 'model' })
  expect(recommended).toMatchObject({ span: { start: 0, end: 12 }, minutes: 0, assignment: { reason: 'first' } })
  expect(recommended?.reason).toContain('No other node was found')
  expect(swarm.gaps).toEqual([{ start: 0, end: 12 }])
})

test('the gap of a swarm, with its sentence, bytes and minutes', () => {
  const { recommended, cost } = plan({
    holders: [peer('a', 0, 4), peer('b', 8, 12)],
    sourceId: 'org/demo-qwen3@main',
  })
  expect(recommended?.span).toEqual({ start: 4, end: 8 })
  expect(recommended?.reason).toBe('Layers 4-7 of demo-qwen3 are held by nobody; you would close the gap.')
  expect(recommended?.downloadBytes).toBeGreaterThan(1.5 * MB)
  expect(recommended?.downloadBytes).toBeLessThan(1.7 * MB)
  expect(recommended?.minutes).toBeGreaterThan(0)
  expect(cost({ start: 0, end: 8 }).downloadBytes).toBeCloseTo(2 * (recommended?.downloadBytes ?? 0), -4)
})

test('a limit of memory limits the layers, and nothing planned exceeds four fifths of it', () => {
  for (const totalMb of [360, 370, 380, 1_000]) {
    const { fit, recommended } = plan({ machine: limited(totalMb) })
    const bytes = recommended?.memory.totalBytes ?? 0
    expect(bytes).toBeLessThanOrEqual(0.8 * totalMb * MB)
    expect(fit.limitedBy).toBe(fit.layers === 12 ? 'model' : 'memory')
    expect(recommended === null).toBe(fit.layers === 0)
  }
  expect(plan({ machine: limited(360) }).fit.layers).toBeLessThan(plan({ machine: limited(1_000) }).fit.layers)
  expect(plan({ machine: limited(335) })).toMatchObject({ fit: { layers: 0, limitedBy: 'memory' }, recommended: null })
})

test('a full disk limits the layers', () => {
  const machine = { ...roomy, disk: { totalBytes: 1_000 * MB, freeBytes: 71 * MB } }
  expect(plan({ machine }).fit).toMatchObject({ limitedBy: 'disk' })
})

test('what cannot be held is refused with the figures', () => {
  const { spec } = survey
  const what = { name: 'demo', spec, recipe: 'f32/1', span: { start: 0, end: 12 } } as const
  expect(() => assertHoldable(what, { ends: true, memoryBytes: 1_000 * MB })).not.toThrow()
  expect(() => assertHoldable(what, { ends: true, memoryBytes: 300 * MB })).toThrow(
    /layers 0-11 and the ends of demo need \d+ MB of memory; 240 MB of the 300 MB here may be used/,
  )
})

test('keys and values get what is left; too little is refused before loading', () => {
  const { spec } = survey
  const holding = { spec, recipe: 'f32/1', spans: [{ start: 0, end: 12 }], endsPath: null } as const
  const options = { name: 'demo', wantedKvBytes: 500 * MB }
  expect(kvBudgetFor(holding, { ...options, freeBytes: 8_000 * MB })).toBe(500 * MB)
  const tight = kvBudgetFor(holding, { ...options, freeBytes: 100 * MB })
  expect(tight).toBeLessThan(60 * MB)
  expect(tight).toBeGreaterThan(40 * MB)
  expect(() => kvBudgetFor(holding, { ...options, freeBytes: 5 * MB })).toThrow(/demo needs \d+ MB/)
})

describe('speed', () => {
  const speed: PlanSpeed = {
    measured: true,
    layer: { decodeMs: 2, prefillMs: 0.5 },
    memoryBytesPerSecond: 20e9,
    diskBytesPerSecond: 500e6,
    downloadBytesPerSecond: 1e6,
  }

  test('alone: every layer and the head; with a swarm: its hops and links too', () => {
    const { solo, split } = plan({ speed }).estimate
    expect(split).toBeNull()
    expect(solo).toBeGreaterThan(1_000 / (2 * 16))
    expect(solo).toBeLessThan(1_000 / (2 * 12))
    const holders = [peer('a', 0, 6), peer('b', 6, 12)]
    const through = plan({ speed, holders }).estimate
    // Two hops of 6 ms; entry to the first, first to second, second to entry.
    expect(through.split).toBeLessThan(1_000 / 12)
    expect(through.split).toBeGreaterThan(1_000 / (24 + 3 * 80 + 8))
    expect(plan({ speed, machine: limited(360) }).estimate.solo).toBeNull()
    expect(plan().estimate).toEqual({ solo: null, split: null })
  })

  test('minutes follow the measured speed of the source', () => {
    const { recommended } = plan({ speed, sourceId: 'org/demo-qwen3@main' })
    expect(recommended?.minutes).toBeCloseTo((recommended?.downloadBytes ?? 0) / 1e6 / 60, 6)
  })

  test('a layer is measured in seconds, and one that is too large is worked out', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'llm-node-speed-'))
    try {
      const request = { spec: survey.spec, recipe: 'q4/1', cores: 1, engine: parseConfig({}).engine, folder } as const
      const found = await measureSpeed(request)
      expect(found.measured).toBe(true)
      for (const value of [found.layer.decodeMs, found.layer.prefillMs]) expect(value).toBeGreaterThan(0)
      expect(found.memoryBytesPerSecond).toBeGreaterThan(1e9)
      expect(found.diskBytesPerSecond).toBeGreaterThan(1e6)
      expect(await readdir(folder)).toEqual([])
      const spec = parseModelConfig({
        ...JSON.parse(survey.evidence.config),
        intermediate_size: 1_048_576,
        hidden_size: 512,
      })
      const guessed = await measureSpeed({ ...request, recipe: 'f32/1', spec })
      expect(guessed.measured).toBe(false)
      expect(guessed.layer.decodeMs).toBeGreaterThan(found.layer.decodeMs * 10)
    } finally {
      await rm(folder, { recursive: true })
    }
  })

  test('a source is listened to only when its files are large', async () => {
    const never = new AbortController().signal
    expect(await measureDownload(survey, await openSource(demoModel), never)).toBeNull()
  })
})
