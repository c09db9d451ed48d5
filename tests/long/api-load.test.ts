import { afterAll, expect, it } from 'vitest'
import { loadNode, median, watchIdly } from '../helpers/api-load.ts'
import { adminToken, startApiNode } from '../integration/api-helpers.ts'
import { createCleanup } from '../integration/p2p-helpers.ts'

const cleanup = createCleanup()
afterAll(() => cleanup.run())

it('serves 64 streams for a minute beside 1,000 idle watchers', async () => {
  const node = await startApiNode(cleanup, { kvMiB: 1_024 })
  const close = await watchIdly(node.url, adminToken, 1_000)
  const load = await loadNode(node.url, { clients: 64, seconds: 60, maxTokens: 60 })
  close()
  process.stdout.write(
    `${load.runs.reduce((sum, { tokens }) => sum + tokens, 0)} tokens, slowest ${load.slowestShare.toFixed(2)} of the median, ` +
      `refused in ${median(load.refusalMs).toFixed(1)} ms, memory × ${load.memoryGrowth.toFixed(3)}\n`,
  )
  expect(load.crossed).toEqual([])
  expect(load.slowestShare).toBeGreaterThanOrEqual(0.5)
  expect(median(load.refusalMs)).toBeLessThanOrEqual(50)
  expect(load.memoryGrowth).toBeLessThan(1.1)
})
