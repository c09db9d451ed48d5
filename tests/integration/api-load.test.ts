import { afterAll, expect, it } from 'vitest'
import { loadNode, median, watchIdly } from '../helpers/api-load.ts'
import { adminToken, startApiNode } from './api-helpers.ts'
import { createCleanup } from './p2p-helpers.ts'

const cleanup = createCleanup()
afterAll(() => cleanup.run())

/** The short version of tests/long/api-load.test.ts. */
it('serves 16 streams and 32 idle watchers: none crossed, none starved; one more is refused at once', async () => {
  const node = await startApiNode(cleanup, { kvMiB: 256, maxUnderWay: 16 })
  const close = await watchIdly(node.url, adminToken, 32)
  const load = await loadNode(node.url, { clients: 16, seconds: 3, maxTokens: 40 })
  close()
  expect(load.runs).toHaveLength(16)
  expect(load.crossed).toEqual([])
  expect(load.slowestShare).toBeGreaterThanOrEqual(0.5)
  expect(load.refusalMs.length).toBeGreaterThan(0)
  // The best of them: other tests compute on the same two cores.
  expect(Math.min(...load.refusalMs)).toBeLessThanOrEqual(50)
  expect(median(load.refusalMs)).toBeLessThanOrEqual(250)
})
