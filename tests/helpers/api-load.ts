/** Many streaming clients at once on one node: what each got, what was refused and how soon, and the memory. */
import { execFile } from 'node:child_process'
import { get } from 'node:http'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { ClientPlan, ClientRun } from '../../bench/lib/api-client.process.ts'

export interface Load {
  readonly runs: readonly ClientRun[]
  /** Streams that were not what the same request gives alone. */
  readonly crossed: readonly number[]
  /** Tokens per second of the slowest client, as a share of the median. */
  readonly slowestShare: number
  /** Milliseconds until each request beyond the queue was refused. */
  readonly refusalMs: readonly number[]
  /** Resident memory in the last fifth of the time against the fifth in the middle. */
  readonly memoryGrowth: number
}

const script = fileURLToPath(new URL('../../bench/lib/api-client.process.ts', import.meta.url))

async function runClients(plan: ClientPlan): Promise<ClientRun[]> {
  const args = [script, JSON.stringify(plan)]
  const { stdout } = await promisify(execFile)(process.execPath, args, { maxBuffer: 64 * 1_048_576 })
  return JSON.parse(stdout)
}

/** As many clients as the node takes at once, so that one more is refused. */
export async function loadNode(url: string, plan: Omit<ClientPlan, 'url'>): Promise<Load> {
  const alone = new Map((await runClients({ url, ...plan, seconds: 0 })).map(({ seed, texts }) => [seed, texts[0]]))
  const memory: number[] = []
  const sampling = setInterval(() => memory.push(process.memoryUsage.rss()), 200)
  const loading = runClients({ url, ...plan })
  const refusalMs: number[] = []
  const untilMs = performance.now() + plan.seconds * 1_000
  while (performance.now() < untilMs - 500) {
    await new Promise((resolve) => setTimeout(resolve, 300))
    const ms = await refusedWithin(url)
    if (ms !== undefined) refusalMs.push(ms)
  }
  const runs = await loading
  clearInterval(sampling)
  const speeds = runs.map(({ tokens, ms }) => (tokens * 1_000) / ms)
  const fifth = Math.max(1, Math.floor(memory.length / 5))
  const middle = memory.slice(2 * fifth, 3 * fifth)
  return {
    runs,
    crossed: runs
      .filter(({ seed, texts }) => texts.length !== 1 || texts[0] !== alone.get(seed))
      .map(({ seed }) => seed),
    slowestShare: Math.min(...speeds) / median(speeds),
    refusalMs,
    memoryGrowth: median(memory.slice(-fifth)) / median(middle),
  }
}

/** Undefined: there was room. */
async function refusedWithin(url: string): Promise<number | undefined> {
  const startMs = performance.now()
  const response = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'demo-qwen3', prompt: 'x', max_tokens: 1 }),
  })
  const ms = performance.now() - startMs
  await response.arrayBuffer()
  if (response.status === 200) return undefined
  if (response.status !== 429 || response.headers.get('retry-after') === null) throw new Error(`${response.status}`)
  return ms
}

/** Idle event streams; the result closes them. Resolves when each has had its hello. */
export async function watchIdly(url: string, token: string, streams: number): Promise<() => void> {
  const open = () =>
    new Promise<() => void>((resolve, reject) => {
      const headers = { authorization: `Bearer ${token}` }
      const request = get(`${url}/api/events`, { headers, agent: false }, (response) => {
        if (response.statusCode === 200) response.once('data', () => resolve(() => request.destroy()))
        else reject(new Error(`status ${response.statusCode}`))
      })
      request.on('error', reject)
    })
  const closes: (() => void)[] = []
  // In groups: a thousand connections in one moment are more than a listening socket keeps waiting.
  for (let from = 0; from < streams; from += 100) {
    closes.push(...(await Promise.all(Array.from({ length: Math.min(100, streams - from) }, open))))
  }
  return () => {
    for (const close of closes) close()
  }
}

export function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN
}
