/** A real terminal for commands that ask: tmux, with a server of its own. */
import { execFile, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { eventually } from './swarm.ts'

const run = promisify(execFile)
const entryPoint = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))

/** Why there is no terminal here, or null when there is one. */
export function terminalUnavailable(): string | null {
  return spawnSync('tmux', ['-V']).error === undefined ? null : 'needs tmux'
}

export interface Terminal {
  /** Names of keys (Enter, Up, C-c), one after the other. */
  press(...keys: string[]): Promise<void>
  type(text: string): Promise<void>
  /** What the screen shows now, and what has left it at the top. */
  screen(): Promise<string>
  /** Resolves with the screen when it shows `text`. */
  shows(text: string | RegExp, withinMs?: number): Promise<string>
  close(): Promise<void>
}

/** Runs `llm-node` with `args` and then `echo ended CODE`. */
export async function openTerminal(args: readonly string[]): Promise<Terminal> {
  const socket = ['-L', `llm-node-${randomBytes(4).toString('hex')}`, '-f', '/dev/null']
  const tmux = async (...rest: string[]) => (await run('tmux', [...socket, ...rest])).stdout
  const words = [process.execPath, entryPoint, ...args].map((word) => `'${word.replaceAll("'", "'\\''")}'`)
  const command = `trap : INT; unset CI NO_COLOR; ${words.join(' ')}; echo "ended $?"; exec sleep 120`
  await tmux('new-session', '-d', '-x', '110', '-y', '50', 'sh', '-c', command)
  const screen = () => tmux('capture-pane', '-p', '-S', '-200')
  return {
    async press(...keys) {
      for (const key of keys) await tmux('send-keys', key)
    },
    async type(text) {
      await tmux('send-keys', '-l', text)
    },
    screen,
    shows: (text, withinMs = 15_000) =>
      eventually(async () => {
        const shown = await screen()
        if (typeof text === 'string' ? shown.includes(text) : text.test(shown)) return shown
        throw new Error(`The screen does not show ${text}:\n${shown}`)
      }, withinMs),
    async close() {
      await tmux('kill-server').catch(() => {})
    },
  }
}
