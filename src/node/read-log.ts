import { type FileHandle, open } from 'node:fs/promises'
import { LlmNodeError } from '../base/errors.ts'
import type { Home } from './home.ts'

const chunkBytes = 65_536
/** What is looked at from the end of the file for the first lines. */
const tailBytes = 1_048_576
const lookMs = 250

/** The last lines of the home's log, then new ones as they come. Throws NOT_RUNNING when there is no log yet. */
export async function* readLog(
  home: Home,
  options: { lines: number; follow: boolean; signal: AbortSignal },
): AsyncGenerator<string> {
  const file = await open(home.logFile).catch((cause) => {
    throw new LlmNodeError('NOT_RUNNING', 'This home has no log yet.', {
      hint: 'Nodes started with llm-node start --detach write one; others write to their terminal.',
      cause,
    })
  })
  try {
    const { size } = await file.stat()
    let at = Math.max(0, size - tailBytes)
    let rest = await readFrom(file, at, size)
    at = size
    const complete = rest.split('\n')
    rest = complete.pop() ?? ''
    if (options.lines > 0) yield* complete.slice(-options.lines)
    while (options.follow && !options.signal.aborted) {
      const now = (await file.stat()).size
      if (now < at) at = 0
      const lines = (rest + (await readFrom(file, at, now))).split('\n')
      at = now
      rest = lines.pop() ?? ''
      yield* lines
      await pause(options.signal)
    }
  } finally {
    await file.close()
  }
}

async function readFrom(file: FileHandle, begin: number, end: number): Promise<string> {
  const parts: Buffer[] = []
  for (let at = begin; at < end; ) {
    const { bytesRead, buffer } = await file.read(Buffer.alloc(Math.min(chunkBytes, end - at)), 0, undefined, at)
    if (bytesRead === 0) break
    parts.push(buffer.subarray(0, bytesRead))
    at += bytesRead
  }
  return Buffer.concat(parts).toString('utf8')
}

function pause(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', end)
      resolve()
    }
    const timer = setTimeout(end, lookMs)
    signal.addEventListener('abort', end, { once: true })
  })
}
