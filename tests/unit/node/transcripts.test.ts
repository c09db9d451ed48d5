import { appendFile, mkdtemp, readdir, readFile, rm, stat, truncate, utimes } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { pipelineLimits } from '../../../src/base/limits.ts'
import { silentLogger } from '../../../src/base/logger.ts'
import { createSecret } from '../../../src/base/secret.ts'
import { createTranscripts } from '../../../src/node/transcripts.ts'
import { neutralSampling } from '../../../src/pipeline/sampler.ts'
import type { TranscriptHead } from '../../../src/pipeline/transcript.ts'

let folder: string
beforeEach(async () => {
  folder = join(await mkdtemp(join(tmpdir(), 'llm-node-answers-')), 'answers')
})
afterEach(() => rm(join(folder, '..'), { recursive: true }))

const open = (seed = 1, nowMs?: () => number) =>
  createTranscripts(folder, {
    key: createSecret(new Uint8Array(32).fill(seed)),
    logger: silentLogger,
    ...(nowMs === undefined ? {} : { nowMs }),
  })

function head(id: string, owner: string | null = 'admin'): TranscriptHead {
  return {
    id,
    createdMs: 1,
    model: 'demo',
    modelId: 'ab',
    recipe: 'f32/1',
    numericsClass: null,
    ownClass: 'cd',
    maxContext: 100,
    promptIds: [1, 2, 3],
    request: {
      prompt: { messages: [{ role: 'user', content: 'a secret question' }] },
      maxTokens: 9,
      sampling: { ...neutralSampling, seed: 1, nTokens: 10 },
      stop: [],
      ignoreEnd: false,
      solo: false,
      swarm: false,
      profile: 'direct',
      exact: true,
      owner,
    },
  }
}

const FIRST = 'gen-0000000000000001'
const SECOND = 'chatcmpl-000000000000000000000002'

test('what was said is there again, for its owner, sealed in a file of 0600', async () => {
  const log = open().begin(head(FIRST))
  log.add([7])
  log.add([8, 9])
  await log.flush()
  const again = open()
  expect(await again.open(FIRST, 'admin')).toEqual({ ...head(FIRST), ids: [7, 8, 9] })
  await expect(again.open(FIRST, 'key other')).rejects.toMatchObject({ code: 'BAD_INPUT' })
  await expect(open(2).open(FIRST, 'admin')).rejects.toMatchObject({ code: 'BAD_INPUT' })
  const file = join(folder, FIRST)
  expect((await stat(file)).mode & 0o777).toBe(0o600)
  expect((await readFile(file)).includes('secret')).toBe(false)
})

test('without a name the latest is meant, of those that are the caller’s', async () => {
  const store = open()
  for (const [name, owner] of [
    [FIRST, 'admin'],
    [SECOND, 'key a'],
  ] as const) {
    await store.begin(head(name, owner)).flush()
  }
  await utimes(join(folder, FIRST), new Date(), new Date(Date.now() - 5_000))
  expect((await store.open(undefined, 'admin')).id).toBe(FIRST)
  expect((await store.open(undefined, 'key a')).id).toBe(SECOND)
})

test('a finished one is gone, unless the node stops meanwhile', async () => {
  const store = open()
  await store.begin(head(FIRST)).discard()
  expect(await readdir(folder)).toEqual([])
  const log = store.begin(head(FIRST))
  store.keepAll()
  await log.discard()
  expect(await readdir(folder)).toEqual([FIRST])
})

test('a record that was cut off, changed or exchanged is left out with all after it', async () => {
  const store = open()
  const log = store.begin(head(FIRST))
  for (const id of [7, 8, 9]) {
    log.add([id])
    await log.flush()
  }
  const file = join(folder, FIRST)
  const { size } = await stat(file)
  await truncate(file, size - 1)
  expect((await store.open(FIRST, 'admin')).ids).toEqual([7, 8])
  await truncate(file, size - 1 - 40)
  await appendFile(file, new Uint8Array(60))
  expect((await store.open(FIRST, 'admin')).ids.length).toBeLessThanOrEqual(8)
  // As another answer's it is worth nothing.
  await appendFile(join(folder, SECOND), await readFile(file))
  await expect(store.open(SECOND, 'admin')).rejects.toMatchObject({ code: 'BAD_INPUT' })
})

test('kept for a day, and so many at most', async () => {
  const store = open(1, () => Date.now() + pipelineLimits.suspendMs + 1_000)
  await store.begin(head(FIRST)).flush()
  await store.sweep()
  expect(await readdir(folder)).toEqual([])
  const now = open()
  const names = Array.from({ length: pipelineLimits.transcripts + 1 }, (_, i) => `gen-${String(i).padStart(16, '0')}`)
  for (const name of names) await now.begin(head(name)).flush()
  await now.sweep()
  expect(await readdir(folder)).toHaveLength(pipelineLimits.transcripts)
})

test('one that grows too long is written no further, and the answer goes on', async () => {
  const log = open().begin(head(FIRST))
  const many = Array.from({ length: 200_000 }, () => 1_000_000_000)
  for (let bytes = 0; bytes <= pipelineLimits.transcriptBytes; bytes += 11 * many.length) {
    log.add(many)
    await log.flush()
  }
  log.add([1])
  await log.flush()
  expect((await stat(join(folder, FIRST))).size).toBeLessThanOrEqual(pipelineLimits.transcriptBytes)
})

test('a name that is a path is refused', () => {
  expect(() => open().begin(head('../../etc/passwd'))).toThrow('is not the id of an answer')
})
