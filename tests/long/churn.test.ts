/**
 * Twenty answers at once while nodes come, leave and die every second for a minute: each is the same to the byte as on one
 * undisturbed node, or ends with an error that is true; and nothing of them is left anywhere. CHURN_SEED repeats a run as far
 * as timing allows, CHURN_SECONDS shortens it.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { AskRequest, AskResult } from '../../src/api/types.ts'
import { pipelineLimits } from '../../src/base/limits.ts'
import { uniformAt } from '../../src/pipeline/splitmix.ts'
import { type Churn, createChurn, type Told } from '../chaos/churn.ts'
import { untruth } from '../chaos/truth.ts'

const seed = Number(process.env.CHURN_SEED ?? Math.floor(Math.random() * 1e6))
const seconds = Number(process.env.CHURN_SECONDS ?? 60)
const AT_ONCE = 20
/** Answers that began near the end have the rest of their tokens to go, on a machine that is busy with itself. */
const FINISH_MS = 90_000
const IDLE_MS = 20_000
const PAUSE_MS = 1_000

let churn: Churn
beforeAll(async () => {
  churn = await createChurn()
}, 180_000)
afterAll(() => churn?.close())

interface Asked {
  readonly request: AskRequest
  readonly told: Told
}

/** Greedy and drawn, short and long prompts, patient and impatient ones, with and without a second circuit. */
const requests = Array.from({ length: 24 }, (_, n): AskRequest => {
  const filler = 'A swarm holds the layers of a model and passes rows on. '.repeat((n % 4) * 8)
  const drawn = n % 2 === 1
  return {
    prompt: `Question ${n}. ${filler}Tell a story.`,
    ...(drawn ? { temperature: 0.8, topP: 0.95, seed: n } : { temperature: 0 }),
    maxTokens: 100 + (n % 5) * 60,
    ignoreEnd: true,
    logitsDigest: true,
    ...(n % 5 === 4 ? { waitMs: 0 } : {}),
    ...(n % 6 === 5 ? { hedge: true } : {}),
  }
})

/** Begins answers so that always so many run, until `over`; resolves when the last one has ended. */
async function keepAsking(over: AbortSignal, signal: AbortSignal): Promise<Asked[]> {
  const asked: Asked[] = []
  let next = 0
  const one = async () => {
    while (!over.aborted) {
      const n = next++
      const request = requests[n % requests.length]
      if (request === undefined) return
      const told = await churn.ask(n % 2 === 0 ? 'bare' : 'holding', request, signal)
      asked.push({ request, told })
      // As a client does that is told to try again later.
      if (told.error !== undefined) await delay(PAUSE_MS)
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, one))
  return asked
}

async function askAlone(): Promise<ReadonlyMap<AskRequest, AskResult>> {
  const alone = new Map<AskRequest, AskResult>()
  for (const request of requests) {
    const { result, error } = await churn.ask('whole', { ...request, solo: true }, AbortSignal.timeout(60_000))
    if (result === undefined) throw new Error(`alone: ${error?.message}`)
    alone.set(request, result)
  }
  return alone
}

const bytesOf = ({ text, tokens, logitsSha256, finishReason }: AskResult) =>
  JSON.stringify([text, tokens, logitsSha256, finishReason])

function faultsOf(asked: readonly Asked[], alone: ReadonlyMap<AskRequest, AskResult>): string[] {
  const limits = { ...pipelineLimits, nLayers: 12 }
  return asked.flatMap(({ request, told }) => {
    const { result, error, text } = told
    const whole = alone.get(request)
    if (whole === undefined) return ['an answer that nobody knows']
    if (error !== undefined) {
      const untrue = untruth({ ...told, code: error.code, failovers: told.failoversAtEnd }, churn.lives, limits)
      const kept = whole.text.startsWith(text) ? null : 'the text so far is another one'
      return [untrue, kept].flatMap((each) => (each === null ? [] : `${each}: ${error.message}`))
    }
    if (result === undefined) return ['neither a result nor an error']
    const wrong = bytesOf(result) === bytesOf(whole) && result.exact ? [] : [`another answer to ${request.prompt}`]
    return result.audit?.state === 'failed' ? [...wrong, `accused: ${result.audit.note}`] : wrong
  })
}

function table(asked: readonly Asked[]): string {
  const { joins, leaves, kills } = churn.counts
  const codes = asked.flatMap(({ told }) => told.error?.code ?? [])
  const byCode = [...new Set(codes)].map((code) => `${code} ${codes.filter((each) => each === code).length}`)
  const sum = (of: (told: Told) => number) => asked.reduce((total, { told }) => total + of(told), 0)
  const rows = Object.entries({
    seed,
    generations: asked.length,
    finished: asked.length - codes.length,
    errors: byCode.join(', ') || 'none',
    tokens: sum(({ result }) => result?.tokens.length ?? 0),
    failovers: sum(({ failovers }) => failovers),
    'waited for somebody': sum(({ suspended }) => suspended),
    'audits passed': asked.filter(({ told }) => told.result?.audit?.state === 'passed').length,
    'joins, leaves, kills': `${joins}, ${leaves}, ${kills}`,
  })
  return rows.map(([name, value]) => `${name.padEnd(22)} ${value}`).join('\n')
}

test(`${AT_ONCE} answers at once, and a node comes, leaves or dies every second`, async () => {
  const alone = await askAlone()
  const over = new AbortController()
  const answers = keepAsking(over.signal, AbortSignal.timeout(seconds * 1_000 + FINISH_MS))
  answers.catch(() => {})
  for (let second = 0; second < seconds; second++) {
    churn.strike(second, () => uniformAt(seed, second))
    await delay(1_000)
  }
  over.abort()
  const asked = await answers
  await churn.settle()
  process.stdout.write(`${table(asked)}\n`)
  expect(faultsOf(asked, alone)).toEqual([])
  const survivors = await churn.expectIdle(IDLE_MS)
  process.stdout.write(`${survivors.length} survivors, and nothing of any answer is left\n`)
  const { joins, leaves, kills, badLeaves } = churn.counts
  expect(badLeaves).toBe(0)
  // Whoever is starting can neither leave nor die yet.
  expect(joins + leaves + kills).toBeGreaterThan(seconds / 2)
  expect(asked.length).toBeGreaterThan(AT_ONCE)
  expect(asked.some(({ told }) => told.failovers > 0)).toBe(true)
}, 300_000)
