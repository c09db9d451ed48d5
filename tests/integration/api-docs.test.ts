import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type ApiNode, adminToken, startApiNode } from './api-helpers.ts'
import { createCleanup } from './p2p-helpers.ts'

const cleanup = createCleanup()
let api: ApiNode

beforeAll(async () => {
  api = await startApiNode(cleanup)
}, 30_000)
afterAll(() => cleanup.run())

describe('docs/api.md', () => {
  it('has examples that run as they stand', async () => {
    const page = await readFile(new URL('../../docs/api.md', import.meta.url), 'utf8')
    const examples = [...page.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map((match) => match[1] ?? '')
    expect(examples.length).toBeGreaterThanOrEqual(3)
    for (const example of examples) {
      const script = example
        .replaceAll('http://127.0.0.1:5560', api.url)
        .replace(/^curl /, 'curl --silent --show-error --fail-with-body --max-time 20 ')
      const env = { ...process.env, TOKEN: adminToken }
      const { stdout } = await promisify(execFile)('bash', ['-c', script], { env })
      if (stdout.startsWith('data: ')) expect(stdout).toMatch(/\ndata: \[DONE\]\n\n$/)
      else expect(JSON.parse(stdout)).not.toHaveProperty('error')
    }
  })
})
