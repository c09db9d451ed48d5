import { fileURLToPath } from 'node:url'
import type { Config } from '../base/config.ts'
import { openModelSource } from '../shard/open-source.ts'
import { paceSource } from '../shard/paced-source.ts'
import type { ModelSource } from '../shard/source.ts'

/** The model that comes with the program: enough to try everything. */
export function bundledModel(): string {
  return fileURLToPath(new URL('../../models/demo-qwen3', import.meta.url))
}

/**
 * What a user writes as a model, opened with the settings of the environment (HF_ENDPOINT, HF_TOKEN), no faster than this
 * node's share allows. Throws BAD_INPUT.
 */
export async function openSource(
  text: string,
  options: { clientName?: string | undefined; share?: Config['share'] | undefined } = {},
): Promise<ModelSource> {
  const { clientName, share } = options
  const source = await openModelSource(text, {
    ...(process.env.HF_ENDPOINT ? { endpoint: process.env.HF_ENDPOINT } : {}),
    ...(process.env.HF_TOKEN ? { token: process.env.HF_TOKEN } : {}),
    ...(clientName === undefined ? {} : { clientName }),
  })
  const limit = share?.downloadMiBps ?? null
  return limit === null ? source : paceSource(source, limit * 1_048_576)
}

/** "Qwen/Qwen3-0.6B@main" → "Qwen3-0.6B"; fit to be a folder's name. */
export function modelName(sourceId: string): string {
  const path = sourceId.replace(/@[^/]*$/, '').replace(/\/+$/, '')
  const last = path.slice(path.lastIndexOf('/') + 1).replaceAll(/[^\w.-]/g, '_')
  return /^[\w-]/.test(last) ? last : `model_${last}`
}
