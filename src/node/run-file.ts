import { readFile, rm } from 'node:fs/promises'
import { z } from 'zod'
import { LlmNodeError } from '../base/errors.ts'
import { writeFileAtomic } from '../base/files.ts'
import type { Home } from './home.ts'

const runState = z.strictObject({
  pid: z.int().positive(),
  apiUrl: z.string(),
  token: z.string().min(32),
  address: z.string(),
})

/** How a command reaches the node that runs on a home. Kept 0600: the token lets its bearer command the node. */
export type RunState = z.infer<typeof runState>

/** Where the pages are; the token stands behind the #, which is sent to nobody and written to no log. */
export function pagesUrl({ apiUrl, token }: Pick<RunState, 'apiUrl' | 'token'>): string {
  return `${apiUrl}/#token=${token}`
}

export async function writeRunFile(home: Home, state: RunState): Promise<void> {
  await writeFileAtomic(home.runFile, `${JSON.stringify(state)}\n`, 0o600)
}

export async function removeRunFile(home: Home): Promise<void> {
  await rm(home.runFile, { force: true })
}

/** The running node of this home, or undefined. A file that a dead process left behind counts as none. */
export async function readRunFile(home: Home): Promise<RunState | undefined> {
  let text: string
  try {
    text = await readFile(home.runFile, 'utf8')
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new LlmNodeError('HOME_UNUSABLE', `${home.runFile} cannot be read.`, {
      hint: 'Run the command as the user that started the node, or name another home with --home DIR.',
      cause,
    })
  }
  const parsed = runState.safeParse(parseJson(text))
  return parsed.success && isAlive(parsed.data.pid) ? parsed.data : undefined
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Whether a process of this number runs, of whatever user. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
