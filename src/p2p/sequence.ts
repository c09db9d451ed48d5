import { readFile } from 'node:fs/promises'
import { z } from 'zod'
import { LlmNodeError } from '../base/errors.ts'
import { writeFileAtomic } from '../base/files.ts'

/** Numbers that only rise, also across restarts and clocks that are set back. */
export interface SequenceCounter {
  /** max(last + 1, now), on disk before it is returned: no two records ever carry the same number (swarm.md §2). */
  next(nowMs: number): Promise<number>
  /** The highest one given out; 0 before the first. */
  readonly last: number
}

const schema = z.strictObject({ last: z.number().int().nonnegative() })

/** Without a file the numbers rise only within the process. Throws HOME_UNUSABLE. */
export async function createSequenceCounter(file: string | undefined): Promise<SequenceCounter> {
  let last = file === undefined ? 0 : await readLast(file)
  let queue: Promise<unknown> = Promise.resolve()
  const advance = async (nowMs: number): Promise<number> => {
    const value = Math.max(last + 1, nowMs)
    if (file !== undefined) await writeFileAtomic(file, `${JSON.stringify({ last: value })}\n`, 0o600)
    last = value
    return value
  }
  return {
    get last() {
      return last
    },
    next(nowMs) {
      const result = queue.then(() => advance(nowMs))
      queue = result.catch(() => {})
      return result
    },
  }
}

async function readLast(file: string): Promise<number> {
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return 0
    throw new LlmNodeError('HOME_UNUSABLE', `${file} cannot be read.`, {
      hint: 'Give this user access to it.',
      cause,
    })
  }
  try {
    return schema.parse(JSON.parse(text)).last
  } catch (cause) {
    throw new LlmNodeError('HOME_UNUSABLE', `${file} is damaged.`, {
      hint: 'Delete it when the clock of this machine is right: the next number is then taken from the clock.',
      cause,
    })
  }
}
