import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, expect, it } from 'vitest'
import { loadNode, median, watchIdly } from '../helpers/api-load.ts'
import { adminToken, startApiNode } from '../integration/api-helpers.ts'
import { createCleanup } from '../integration/p2p-helpers.ts'

const cleanup = createCleanup()
afterEach(() => cleanup.run())
const say = (line: string) => process.stdout.write(`${line}\n`)

it('serves 64 streams for a minute: none lost or crossed, none starved, one more refused at once, memory flat', async () => {
  const node = await startApiNode(cleanup, { kvMiB: 1_024 })
  const load = await loadNode(node.url, { clients: 64, seconds: 60, maxTokens: 60 })
  const tokens = load.runs.reduce((sum, run) => sum + run.tokens, 0)
  say(
    `${tokens} tokens; slowest ${load.slowestShare.toFixed(2)} of the median; memory × ${load.memoryGrowth.toFixed(3)}`,
  )
  say(`refused in ${median(load.refusalMs).toFixed(1)} ms (median of ${load.refusalMs.length})`)
  expect(load.crossed).toEqual([])
  expect(load.slowestShare).toBeGreaterThanOrEqual(0.5)
  expect(median(load.refusalMs)).toBeLessThanOrEqual(50)
  expect(load.memoryGrowth).toBeLessThan(1.1)
})

it('keeps 1,000 idle watchers: little memory each, everybody is told, nobody waits for them', async () => {
  const node = await startApiNode(cleanup)
  const before = process.memoryUsage.rss()
  const close = await watchIdly(node.url, adminToken, 1_000)
  // Over one keep-alive of every stream.
  await delay(16_000)
  const bytesEach = (process.memoryUsage.rss() - before) / 1_000
  const startMs = performance.now()
  expect((await fetch(`${node.url}/api/health`)).status).toBe(200)
  const ms = performance.now() - startMs
  say(`${Math.round(bytesEach / 1024)} KiB a watcher; a request beside them takes ${ms.toFixed(1)} ms`)
  expect(bytesEach).toBeLessThan(128 * 1024)
  expect(ms).toBeLessThan(50)
  close()
})
