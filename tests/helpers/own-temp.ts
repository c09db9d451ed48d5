import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'

const PREFIX = 'llm-node-tests-'

/** One folder for everything that a test run puts aside: what programs leave that are killed goes with it. */
export async function setup(): Promise<(() => Promise<void>) | undefined> {
  // Each project of a run asks for one.
  if (basename(tmpdir()).startsWith(PREFIX)) return undefined
  const before = process.env.TMPDIR
  const folder = await mkdtemp(join(tmpdir(), PREFIX))
  process.env.TMPDIR = folder
  return async () => {
    if (before === undefined) delete process.env.TMPDIR
    else process.env.TMPDIR = before
    await rm(folder, { recursive: true, force: true, maxRetries: 5 })
  }
}
