import { fileURLToPath } from 'node:url'
import type { Config } from '../base/config.ts'
import type { ModelSpec } from '../model/spec.ts'
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

/** "Qwen/Qwen3-0.6B@main" → "Qwen3-0.6B"; a server whose root is the model → "qwen3-28x1024". Fit to be a folder's name. */
export function modelName(
  sourceId: string,
  { family, nLayers, hiddenSize }: Pick<ModelSpec, 'family' | 'nLayers' | 'hiddenSize'>,
): string {
  const path = sourceId.replace(/@[^/]*$/, '').replace(/\/+$/, '')
  // An address says nothing about what lies there; its port may be another one tomorrow.
  if (/^https?:\/\/[^/]*$/.test(path)) return `${family}-${nLayers}x${hiddenSize}`
  const last = path.slice(path.lastIndexOf('/') + 1).replaceAll(/[^\w.-]/g, '_')
  return /^[\w-]/.test(last) ? last : `model_${last}`
}
