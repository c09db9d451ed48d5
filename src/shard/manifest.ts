import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { LlmNodeError } from '../base/errors.ts'
import { writeFileAtomic } from '../base/files.ts'
import { downloadLimits, modelLimits } from '../base/limits.ts'
import { type RecipeId, recipeIds } from './recipe.ts'
import type { SurveyEvidence } from './survey.ts'

const sha256 = z.string().regex(/^[0-9a-f]{64}$/)

const heldFile = z.object({
  /** Plain name in the model's folder. */
  name: z.string().regex(/^[A-Za-z0-9][\w.-]{0,200}$/),
  bytes: z.number().int().nonnegative(),
  sha256,
})

const packedFile = heldFile.extend({
  /** Where it came from, and the versions of the source files then: another version there makes it stale. */
  source: z.string(),
  versions: z.record(z.string(), z.string().nullable()),
})

const manifestSchema = z.object({
  format: z.literal(1),
  modelId: sha256,
  recipe: z.enum(recipeIds),
  source: z.string(),
  layers: z
    .array(packedFile.extend({ layer: z.number().int().nonnegative(), digest: z.string().regex(/^[0-9a-f]{8}$/) }))
    .max(modelLimits.nLayers),
  ends: packedFile.nullable(),
  /** config.json, tokenizer files and the like, as the source has them. */
  files: z.array(heldFile).max(16),
})

export type HeldFile = z.infer<typeof heldFile>
export type PackedModelFile = z.infer<typeof packedFile>

/** What a model's folder holds: local bookkeeping, written after the files that it names. */
export type ModelManifest = z.infer<typeof manifestSchema> & { readonly recipe: RecipeId }

const evidenceSchema = z.object({
  source: z.string(),
  config: z.string(),
  index: z.string().nullable(),
  weightFiles: z
    .array(
      z.object({
        name: z.string(),
        version: z.string().nullable(),
        fileBytes: z.number().int().nonnegative(),
        header: z.string(),
      }),
    )
    .max(downloadLimits.weightFiles),
})

const manifestFile = 'manifest.json'
const surveyFile = 'survey.json'

/** null: the folder holds no model yet. Throws MODEL_CORRUPT. */
export async function readManifest(folder: string): Promise<ModelManifest | null> {
  const value = await readJsonFile(join(folder, manifestFile))
  if (value === undefined) return null
  const parsed = manifestSchema.safeParse(value)
  if (parsed.success) return parsed.data
  throw new LlmNodeError(
    'MODEL_CORRUPT',
    `${join(folder, manifestFile)} cannot be read: ${z.prettifyError(parsed.error)}`,
    {
      hint: 'Remove the model and fetch it again: llm-node models rm, then llm-node models pull.',
    },
  )
}

export async function writeManifest(folder: string, manifest: ModelManifest): Promise<void> {
  await writeFileAtomic(join(folder, manifestFile), `${JSON.stringify(manifest, null, 2)}\n`)
}

/** null when there is none, or it cannot be read: it can always be fetched again. */
export async function readSurvey(folder: string): Promise<SurveyEvidence | null> {
  const value = await readJsonFile(join(folder, surveyFile)).catch(() => undefined)
  return evidenceSchema.safeParse(value).data ?? null
}

export async function writeSurvey(folder: string, evidence: SurveyEvidence): Promise<void> {
  await writeFileAtomic(join(folder, surveyFile), JSON.stringify(evidence))
}

async function readJsonFile(path: string): Promise<unknown> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') return undefined
    throw new LlmNodeError('HOME_UNUSABLE', `${path} cannot be read.`, { cause })
  }
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new LlmNodeError('MODEL_CORRUPT', `${path} is not JSON.`, { cause })
  }
}
