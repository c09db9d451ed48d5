import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { utf8 } from '../base/bytes.ts'
import { LlmNodeError } from '../base/errors.ts'
import { writeFileAtomic } from '../base/files.ts'
import { downloadLimits } from '../base/limits.ts'
import type { HeldFile, ModelManifest } from './manifest.ts'
import type { ModelSource } from './source.ts'
import { configFile, type ModelSurvey } from './survey.ts'

const tokenizerFile = 'tokenizer.json'

/** What an entry needs besides the weights of the ends. Only the first must exist. */
export const companionFiles: readonly string[] = [
  tokenizerFile,
  'tokenizer_config.json',
  'generation_config.json',
  'special_tokens_map.json',
  'chat_template.jinja',
]

/** Stores config.json as the source has it; returns the manifest that names it. */
export async function writeConfig(
  folder: string,
  manifest: ModelManifest,
  survey: ModelSurvey,
): Promise<ModelManifest> {
  return withFiles(manifest, [await store(folder, configFile, utf8(survey.evidence.config))])
}

/** Fetches the tokenizer and its companions; returns the manifest that names them. Throws MODEL_UNSUPPORTED. */
export async function fetchCompanions(
  options: { source: ModelSource; folder: string; signal?: AbortSignal },
  manifest: ModelManifest,
): Promise<ModelManifest> {
  const { source, folder, signal } = options
  const files: HeldFile[] = []
  for (const name of companionFiles) {
    const maxBytes = downloadLimits.tokenizerBytes
    const bytes = await source.readFile(name, { maxBytes, ...(signal ? { signal } : {}) })
    if (bytes) files.push(await store(folder, name, bytes))
    else if (name === tokenizerFile) {
      throw new LlmNodeError('MODEL_UNSUPPORTED', `${source.id} has no ${name}.`, {
        hint: 'Choose a copy of the model with a tokenizer.json.',
      })
    }
  }
  return withFiles(manifest, files)
}

async function store(folder: string, name: string, bytes: Uint8Array): Promise<HeldFile> {
  await writeFileAtomic(join(folder, name), bytes)
  return { name, bytes: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') }
}

function withFiles(manifest: ModelManifest, files: readonly HeldFile[]): ModelManifest {
  const names = new Set(files.map(({ name }) => name))
  return { ...manifest, files: [...manifest.files.filter(({ name }) => !names.has(name)), ...files] }
}
