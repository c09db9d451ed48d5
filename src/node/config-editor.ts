import { spawn } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseConfig } from '../base/config.ts'
import { LlmNodeError } from '../base/errors.ts'
import { type Home, loadConfig, saveConfig } from './home.ts'

/**
 * Opens the settings in the user's editor (VISUAL, EDITOR, otherwise vi) and takes them over when they are valid; false:
 * nothing was changed. The file itself never holds anything that is not. Throws BAD_INPUT when the editor does not run,
 * BAD_CONFIG with the path of what was written when it is not valid.
 */
export async function editConfig(home: Home, env: NodeJS.ProcessEnv): Promise<boolean> {
  const config = await loadConfig(home, { env: {} })
  const before = `${JSON.stringify(config, null, 2)}\n`
  const folder = await mkdtemp(join(tmpdir(), 'llm-node-config-'))
  const copy = join(folder, 'config.json')
  await writeFile(copy, before, { mode: 0o600 })
  try {
    await runEditor(env.VISUAL || env.EDITOR || (process.platform === 'win32' ? 'notepad' : 'vi'), copy)
  } catch (error) {
    await rm(folder, { recursive: true })
    throw error
  }
  const after = await readFile(copy, 'utf8')
  if (after !== before) {
    try {
      await saveConfig(home, parseConfig(JSON.parse(after)))
    } catch (cause) {
      throw new LlmNodeError('BAD_CONFIG', `${(cause as Error).message} Nothing was changed.`, {
        hint: `What you wrote is in ${copy}.`,
        cause,
      })
    }
  }
  await rm(folder, { recursive: true })
  return after !== before
}

/** `editor` may carry arguments ("code --wait"): a shell reads it, as git does. */
function runEditor(editor: string, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (cause?: Error) =>
      reject(
        new LlmNodeError('BAD_INPUT', `The editor "${editor}" did not end well.`, {
          hint: 'Name another one: EDITOR=nano llm-node config edit',
          ...(cause === undefined ? {} : { cause }),
        }),
      )
    const quoted = process.platform === 'win32' ? `"${path}"` : `'${path.replaceAll("'", "'\\''")}'`
    const child = spawn(`${editor} ${quoted}`, { shell: true, stdio: 'inherit' })
    child.once('error', failed)
    child.once('exit', (code) => (code === 0 ? resolve() : failed()))
  })
}
