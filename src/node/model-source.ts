import { fileURLToPath } from 'node:url'
import { openModelSource } from '../shard/open-source.ts'
import type { ModelSource } from '../shard/source.ts'

/** The model that comes with the program: enough to try everything. */
export function bundledModel(): string {
  return fileURLToPath(new URL('../../models/demo-qwen3', import.meta.url))
}

/** What a user writes as a model, opened with the settings of the environment (HF_ENDPOINT, HF_TOKEN). Throws BAD_INPUT. */
export function openSource(text: string, clientName?: string): Promise<ModelSource> {
  return openModelSource(text, {
    ...(process.env.HF_ENDPOINT ? { endpoint: process.env.HF_ENDPOINT } : {}),
    ...(process.env.HF_TOKEN ? { token: process.env.HF_TOKEN } : {}),
    ...(clientName === undefined ? {} : { clientName }),
  })
}

/** "Qwen/Qwen3-0.6B@main" → "Qwen3-0.6B"; fit to be a folder's name. */
export function modelName(sourceId: string): string {
  const path = sourceId.replace(/@[^/]*$/, '').replace(/\/+$/, '')
  const last = path.slice(path.lastIndexOf('/') + 1).replaceAll(/[^\w.-]/g, '_')
  return /^[\w-]/.test(last) ? last : `model_${last}`
}
