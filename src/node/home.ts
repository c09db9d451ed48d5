import { constants } from 'node:fs'
import { access, mkdir, readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { type Config, type ConfigOverrides, configFromEnvironment, parseConfig } from '../base/config.ts'
import { LlmNodeError } from '../base/errors.ts'
import { writeFileAtomic } from '../base/files.ts'

/** Where one node keeps its things. With `--home` all lie in one folder, otherwise in the XDG folders. */
export interface Home {
  /** For messages: the folder that the user named, or null. */
  readonly root: string | null
  readonly configFile: string
  readonly keysFolder: string
  readonly dataFolder: string
  readonly modelsFolder: string
  /** Of the running node: pid, API address and token. 0600. */
  readonly runFile: string
  readonly logFile: string
}

export function locateHome(root: string | undefined, env: Readonly<Record<string, string | undefined>>): Home {
  const named = root ?? env.LLM_NODE_HOME
  if (named !== undefined && named !== '') {
    const base = resolve(named)
    return {
      root: base,
      configFile: join(base, 'config.json'),
      keysFolder: join(base, 'keys'),
      dataFolder: join(base, 'data'),
      modelsFolder: join(base, 'models'),
      runFile: join(base, 'state', 'run.json'),
      logFile: join(base, 'state', 'node.log'),
    }
  }
  const xdg = (name: string, fallback: string) => join(env[name] || join(homedir(), fallback), 'llm-node')
  const data = xdg('XDG_DATA_HOME', '.local/share')
  const state = xdg('XDG_STATE_HOME', '.local/state')
  return {
    root: null,
    configFile: join(xdg('XDG_CONFIG_HOME', '.config'), 'config.json'),
    keysFolder: join(data, 'keys'),
    dataFolder: data,
    modelsFolder: join(xdg('XDG_CACHE_HOME', '.cache'), 'models'),
    runFile: join(state, 'run.json'),
    logFile: join(state, 'node.log'),
  }
}

/** Makes the folders. Throws HOME_UNUSABLE with the folder that cannot be used. */
export async function prepareHome(home: Home): Promise<void> {
  for (const folder of [home.dataFolder, home.keysFolder, home.modelsFolder]) {
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 })
      await access(folder, constants.R_OK | constants.W_OK | constants.X_OK)
    } catch (cause) {
      throw new LlmNodeError('HOME_UNUSABLE', `The folder ${folder} cannot be read and written.`, {
        hint: 'Give this user access to it, or name another one with --home DIR.',
        cause,
      })
    }
  }
}

/** The configuration of a home; defaults when there is no file yet. Throws BAD_CONFIG, HOME_UNUSABLE. */
export async function loadConfig(
  home: Home,
  options: { env: Readonly<Record<string, string | undefined>>; overrides?: ConfigOverrides },
): Promise<Config> {
  const text = await readIfPresent(home.configFile)
  let raw: unknown
  try {
    raw = text === undefined ? undefined : JSON.parse(text)
  } catch (cause) {
    throw new LlmNodeError('BAD_CONFIG', `${home.configFile} is not valid JSON.`, {
      hint: 'Correct it, or move it away and run llm-node setup again.',
      cause,
    })
  }
  const fromEnv = configFromEnvironment(options.env)
  const overrides: ConfigOverrides = { ...fromEnv }
  for (const [section, values] of Object.entries(options.overrides ?? {})) {
    const key = section as keyof ConfigOverrides
    overrides[key] = { ...fromEnv[key], ...values }
  }
  return parseConfig(raw, overrides)
}

export async function saveConfig(home: Home, config: Config): Promise<void> {
  await writeFileAtomic(home.configFile, `${JSON.stringify(config, null, 2)}\n`, 0o600)
}

/** The file's text, or undefined when there is none. Throws HOME_UNUSABLE when it is there but not readable. */
export async function readIfPresent(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new LlmNodeError('HOME_UNUSABLE', `${path} cannot be read.`, {
      hint: 'Give this user access to it, or name another folder with --home DIR.',
      cause,
    })
  }
}
