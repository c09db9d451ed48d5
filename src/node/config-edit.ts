import { type Config, parseConfig } from '../base/config.ts'
import { LlmNodeError } from '../base/errors.ts'
import { type Home, loadConfig, saveConfig } from './home.ts'

/** The value at a dotted path ("network.port"); everything without one. Environment variables are in force. */
export async function getSetting(home: Home, path: string | undefined): Promise<unknown> {
  const config = await loadConfig(home, { env: process.env })
  return path === undefined ? config : find(config, path)
}

/** Writes one setting; `text` is JSON, or a plain word. Throws BAD_INPUT, BAD_CONFIG naming the field. */
export async function setSetting(home: Home, path: string, text: string): Promise<unknown> {
  const config = await loadConfig(home, { env: {} })
  const keys = path.split('.')
  if (keys[0] === 'models' || keys[0] === 'version') {
    throw new LlmNodeError('BAD_INPUT', `${keys[0]} is not set by hand.`, {
      hint: 'Models come and go with: llm-node setup',
    })
  }
  find(config, path)
  const [section = '', key] = keys
  const value = readValue(text)
  const changed =
    key === undefined ? { [section]: value } : { [section]: { ...(config[section as 'log'] as object), [key]: value } }
  const checked = parseConfig({ ...config, ...changed })
  await saveConfig(home, checked)
  return find(checked, path)
}

function find(config: Config, path: string): unknown {
  let at: unknown = config
  for (const key of path.split('.')) {
    if (typeof at !== 'object' || at === null || !Object.hasOwn(at, key)) {
      throw new LlmNodeError('BAD_INPUT', `There is no setting "${path}".`, {
        hint: 'llm-node config get shows all of them.',
      })
    }
    at = (at as Record<string, unknown>)[key]
  }
  return at
}

function readValue(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}
