/** Sessions on a runner: admission, growth, order, rollback, cancellation, closing; and that none of it costs a bit. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { LlmNodeError } from '../../src/base/errors.ts'
import { shardLimits } from '../../src/base/limits.ts'
import { openOrt } from '../../src/shard/ort.ts'
import type { KvSession, RunRecord, SpanRunner } from '../../src/shard/runner.ts'
import { digestOf, openEngine, openRunner, runChain, sampleRows, type TestEngine } from '../helpers/engine.ts'
import { packModel } from '../helpers/packed.ts'

const whole = { start: 0, end: 12 }
const codeOf = (error: unknown) => (error instanceof LlmNodeError ? error.code : error)
const refused = (promise: Promise<unknown>) => promise.then(() => 'fine', codeOf)
const thrown = (call: () => unknown) => {
  try {
    call()
    return 'fine'
  } catch (error) {
    return codeOf(error)
  }
}

let engine: TestEngine
let records: RunRecord[] = []
const hiddenSize = 128
/** 2 × 2 KV heads × 32 × 4 bytes, 12 layers. */
const bytesPerToken = 512 * 12

beforeAll(async () => {
  engine = await openEngine('models/demo-qwen3', 'q4/1', {
    threads: 2,
    kvBudgetBytes: 3_000 * bytesPerToken,
    onRun: (record) => records.push(record),
  })
})
afterAll(() => engine.close())

const open = (maxContext: number, runner: SpanRunner = engine.runner): KvSession => {
  const session = runner.openSession({ span: whole, maxContext })
  onTestFinished(() => session.close())
  return session
}
const rows = (count: number) => sampleRows(count, hiddenSize)

describe('admission', () => {
  test('the budget is reserved with the session and given back with it', () => {
    expect(engine.runner.freeKvTokens).toBe(2_999)
    const first = open(2_000)
    expect(engine.runner.freeKvTokens).toBe(998)
    expect(thrown(() => open(999))).toBe('KV_FULL')
    const part = engine.runner.openSession({ span: { start: 3, end: 6 }, maxContext: 1_999 })
    expect(engine.runner.freeKvTokens).toBe(498)
    part.close()
    first.close()
    first.close()
    expect(engine.runner.freeKvTokens).toBe(2_999)
  })

  test('spans and contexts that do not exist', () => {
    expect(thrown(() => engine.runner.openSession({ span: { start: 8, end: 13 }, maxContext: 8 }))).toBe('SPAN')
    expect(thrown(() => engine.runner.openSession({ span: { start: 5, end: 5 }, maxContext: 8 }))).toBe('SPAN')
    expect(thrown(() => open(2_049))).toBe('CONTEXT_TOO_LONG')
    expect(thrown(() => open(0))).toBe('BAD_INPUT')
  })

  test('memory grows with what is used, not with what is reserved', async () => {
    const session = open(2_000)
    expect(engine.runner.memory().kvBytes).toBe(0)
    await session.forward(0, rows(10))
    expect(engine.runner.memory().kvBytes).toBe(64 * bytesPerToken)
    await session.forward(10, rows(300))
    expect(engine.runner.memory().kvBytes).toBe(320 * bytesPerToken)
    expect(engine.runner.memory().weightsBytes).toBeGreaterThan(300_000)
  })
})

describe('rows', () => {
  test('wrong rows are refused before they reach the engine', async () => {
    const session = open(20)
    expect(await refused(session.forward(0, new Float32Array(130)))).toBe('BAD_INPUT')
    expect(await refused(session.forward(0, new Float32Array(0)))).toBe('BAD_INPUT')
    expect(await refused(session.forward(-1, rows(1)))).toBe('BAD_INPUT')
    expect(await refused(session.forward(1, rows(1)))).toBe('BAD_INPUT')
    expect(await refused(session.forward(0, rows(21)))).toBe('CONTEXT_TOO_LONG')
    expect(await refused(session.forward(0, rows(2).fill(Number.NaN, 5, 6)))).toBe('BAD_INPUT')
    expect(session.length).toBe(0)
    await session.forward(0, rows(20))
    expect(session.length).toBe(20)
  })

  test('the dummy row is never visible: the full context is usable and exact', async () => {
    const [exact, stepwise] = [open(257), open(257)]
    const [expected = new Float32Array()] = await runChain([exact], rows(257), hiddenSize, 257)
    const [actual = new Float32Array()] = await runChain([stepwise], rows(257), hiddenSize, 1)
    expect(digestOf(actual)).toBe(digestOf(expected))
  })

  test('growing the KV in the middle of a sequence changes nothing', async () => {
    const [grown, fresh] = [open(700), open(700)]
    const [stepwise = new Float32Array()] = await runChain([grown], rows(600), hiddenSize, 50)
    const [direct = new Float32Array()] = await runChain([fresh], rows(600), hiddenSize, 600)
    expect(digestOf(stepwise)).toBe(digestOf(direct))
  })

  test('a lower position rolls back, and the rows after it are forgotten', async () => {
    const [session, straight] = [open(100), open(100)]
    const input = rows(60)
    const at = (from: number, to: number) => input.slice(from * hiddenSize, to * hiddenSize)
    await session.forward(0, at(0, 30))
    await session.forward(
      30,
      rows(9).map((value) => -value),
    )
    expect(session.length).toBe(39)
    const replaced = await session.forward(30, at(30, 32))
    expect(session.length).toBe(32)
    const expected = await straight.forward(0, at(0, 32))
    expect(digestOf(replaced)).toBe(digestOf(expected.slice(30 * hiddenSize)))
    expect(await refused(session.forward(33, at(33, 34)))).toBe('BAD_INPUT')
  })

  test('every run is reported as it was asked for', async () => {
    const session = open(400)
    records = []
    await session.forward(0, rows(300))
    await session.forward(300, rows(1))
    await session.forward(300, rows(5))
    const asked = records.map(({ pos, rows: count }) => [pos, count])
    expect(asked).toEqual([
      [0, 128],
      [128, 128],
      [256, 44],
      [300, 1],
      [300, 5],
    ])
    for (const record of records) {
      expect(record).toMatchObject({ span: whole, threads: 2 })
      expect(record.ms).toBeGreaterThan(0)
    }
  })
})

describe('several sessions', () => {
  test('take turns, chunk by chunk, and compute what they compute alone', async () => {
    const inputs = [rows(300), rows(2).map((value) => value / 2), rows(3).map((value) => -value)]
    const alone: string[] = []
    for (const input of inputs) alone.push(digestOf(await open(400).forward(0, input)))
    records = []
    const together = await Promise.all(inputs.map((input) => open(400).forward(0, input)))
    expect(together.map((result) => digestOf(result))).toEqual(alone)
    expect(records.map(({ rows: count }) => count)).toEqual([128, 2, 3, 128, 44])
  })

  test('calls of one session keep their order', async () => {
    const [session, other, straight] = [open(400), open(400), open(400)]
    const input = rows(270)
    const parts = [input.slice(0, 200 * hiddenSize), input.slice(200 * hiddenSize)]
    const results = await Promise.all([
      session.forward(0, parts[0] ?? input),
      session.forward(200, parts[1] ?? input),
      other.forward(0, rows(4)),
    ])
    const expected = await straight.forward(0, input)
    expect(digestOf(...results.slice(0, 2))).toBe(digestOf(expected))
  })

  test('no more calls wait than the limit says', async () => {
    const session = open(200)
    const calls = Array.from({ length: shardLimits.waitingForwards + 1 }, (_, i) =>
      refused(session.forward(i, rows(1))),
    )
    const codes = await Promise.all(calls)
    expect(codes.filter((code) => code === 'LIMIT')).toHaveLength(1)
    expect(session.length).toBe(shardLimits.waitingForwards)
  })
})

describe('stopping', () => {
  test('an aborted call is rejected at once, its rows do not count, the next call is exact', async () => {
    const [session, straight] = [open(400), open(400)]
    await session.forward(0, rows(20))
    const controller = new AbortController()
    const running = session.forward(20, rows(200), { signal: controller.signal })
    const waiting = session.forward(20, rows(7), { signal: controller.signal })
    controller.abort()
    expect(await refused(running)).toBe('ABORTED')
    expect(await refused(waiting)).toBe('ABORTED')
    expect(session.length).toBe(20)
    const next = await session.forward(20, rows(3))
    await straight.forward(0, rows(20))
    expect(digestOf(next)).toBe(digestOf(await straight.forward(20, rows(3))))
    expect(await refused(session.forward(23, rows(1), { signal: AbortSignal.abort() }))).toBe('ABORTED')
  })

  test('closing a session while it runs drops its calls and leaves the others alone', async () => {
    const [closing, other] = [open(400), open(400)]
    const calls = [closing.forward(0, rows(300)), closing.forward(300, rows(1))]
    const kept = other.forward(0, rows(5))
    closing.close()
    expect(await Promise.all(calls.map(refused))).toEqual(['ABORTED', 'ABORTED'])
    expect(await refused(closing.forward(0, rows(1)))).toBe('ABORTED')
    expect(digestOf(await kept)).toBe(digestOf(await open(400).forward(0, rows(5))))
  })

  test('closing the runner while it runs waits for the run and ends every session', async () => {
    const runner = await openRunner(engine.model, { threads: 2 })
    const session = runner.openSession({ span: whole, maxContext: 400 })
    const call = refused(session.forward(0, rows(300)))
    await Promise.all([runner.close(), runner.close()])
    expect(await call).toBe('ABORTED')
    expect(thrown(() => runner.openSession({ span: whole, maxContext: 4 }))).toBe('ABORTED')
  })
})

describe('what cannot be loaded', () => {
  const damaged = (change: (bytes: Uint8Array) => Uint8Array) => {
    const model = packModel('tests/golden/qwen3-sharded-f32', 'i8/1')
    const [first = ''] = model.layerFiles
    onTestFinished(() => rmSync(model.folder, { recursive: true }))
    writeFileSync(first, change(readFileSync(first)))
    return refused(openRunner(model))
  }

  test('a file that is cut off, of another recipe, or missing', async () => {
    expect(await damaged((bytes) => bytes.subarray(0, bytes.length - 1))).toBe('MODEL_CORRUPT')
    expect(
      await damaged((bytes) => Buffer.from(Buffer.from(bytes).toString('latin1').replace('qkv.q', 'qkv.w'), 'latin1')),
    ).toBe('MODEL_CORRUPT')
    const model = { ...engine.model, layerFiles: engine.model.layerFiles.map((path) => `${path}.not`) }
    expect(await refused(openRunner(model))).toBe('MODEL_NOT_FOUND')
  })

  test('a library that is none', () => {
    expect(thrown(() => openOrt('package.json'))).toBe('ENGINE_UNAVAILABLE')
  })
})
