/** Random sessions on one runner: they come, go, guess, take back and break off. */
import { LlmNodeError } from '../../src/base/errors.ts'
import { createRandom } from '../../src/base/random.ts'
import type { KvSession } from '../../src/shard/runner.ts'
import type { TestEngine } from './engine.ts'

export interface RandomLoad {
  readonly sessions: number
  /** At the same time. */
  readonly underWay: number
  /** Of a session. */
  readonly mostRows: number
}

/**
 * Lets the sessions live on the engine's runner and compares what comes out of each with a session that runs alone.
 * Resolves with how many values differ. What a session does is decided by its number alone.
 */
export async function runRandomLoad(engine: TestEngine, load: RandomLoad): Promise<number> {
  const ids = Array.from({ length: engine.model.spec.vocabSize }, (_, i) => i)
  const bank = await engine.ends.embed(ids)
  const stage = { engine, bank, mostRows: load.mostRows }
  let next = 0
  let wrong = 0
  const lives = Array.from({ length: load.underWay }, async () => {
    for (let index = next++; index < load.sessions; index = next++) wrong += await live(stage, index)
  })
  await Promise.all(lives)
  return wrong
}

interface Stage {
  readonly engine: TestEngine
  /** Rows that all sessions draw from: one for each id. */
  readonly bank: Float32Array
  readonly mostRows: number
}

async function live(stage: Stage, index: number): Promise<number> {
  const { vocabSize, hiddenSize } = stage.engine.model.spec
  const random = createRandom(0x9e3779b9 ^ Math.imul(index + 1, 0x85ebca6b))
  const below = (n: number) => random() % n
  const some = (count: number) => Array.from({ length: count }, () => below(vocabSize))
  const nRows = 2 + (below(4) === 0 ? below(stage.mostRows - 2) : below(24))
  const ids = some(nRows)
  const output = new Float32Array(nRows * hiddenSize)
  const session = open(stage, nRows + 8)
  const leaves = below(10) === 0
  for (let pos = 0, calls = 0; pos < nRows; calls++) {
    if (calls > 1_000) throw new RangeError('a session does not come to an end')
    if (leaves && pos > nRows / 2) {
      // While its rows are under way.
      const last = send(stage, session, { pos, ids: ids.slice(pos) })
      session.close()
      return (await last) === null ? 0 : 1
    }
    const wanted = pos === 0 ? 1 + below(nRows) : 1 + below(3)
    const right = ids.slice(pos, pos + wanted)
    const guess = below(4) === 0 ? some(1 + below(7)) : []
    const rows = await send(stage, session, { pos, ids: [...right, ...guess], breaksOff: below(12) === 0 })
    if (rows === null) {
      // Nothing before the rows that were broken off is lost.
      if (session.length < pos) return 1
      continue
    }
    output.set(rows.subarray(0, right.length * hiddenSize), pos * hiddenSize)
    pos += right.length
    // The guess was wrong: the next rows overwrite it. Sometimes some of the right ones are taken back, too.
    if (below(8) === 0) pos -= Math.min(pos, 1 + below(3))
  }
  session.close()
  const alone = open(stage, nRows)
  const expected = await alone.forward(0, rowsOf(stage, ids))
  alone.close()
  return differing(expected, output)
}

function open({ engine: { runner } }: Stage, maxContext: number): KvSession {
  return runner.openSession({ span: runner.span, maxContext })
}

/** What comes out of the last layer, or null when it was broken off on the way. */
async function send(
  stage: Stage,
  session: KvSession,
  { pos, ids, breaksOff = false }: { pos: number; ids: readonly number[]; breaksOff?: boolean },
): Promise<Float32Array | null> {
  const controller = new AbortController()
  const answer = session.forward(pos, rowsOf(stage, ids), { signal: controller.signal })
  if (breaksOff) setImmediate(() => controller.abort())
  try {
    return await answer
  } catch (error) {
    if (error instanceof LlmNodeError && error.code === 'ABORTED') return null
    throw error
  }
}

function rowsOf({ engine, bank }: Stage, ids: readonly number[]): Float32Array {
  const { hiddenSize } = engine.model.spec
  const rows = new Float32Array(ids.length * hiddenSize)
  for (const [i, id] of ids.entries()) rows.set(bank.subarray(id * hiddenSize, (id + 1) * hiddenSize), i * hiddenSize)
  return rows
}

function differing(a: Float32Array, b: Float32Array): number {
  let count = 0
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) count++
  return count
}
