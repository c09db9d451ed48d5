import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Config, ModelEntry } from '../base/config.ts'
import { LlmNodeError } from '../base/errors.ts'
import type { DownloadProgress } from '../shard/download.ts'
import { openHolding, type VerifiedFile, verifyModel } from '../shard/holding.ts'
import { type CatalogueModel, readCatalogue } from './catalogue.ts'
import { type Home, loadConfig, saveConfig } from './home.ts'
import { readRunFile } from './run-file.ts'
import { type SetupResult, setupModel } from './setup.ts'

export interface HeldModel {
  readonly name: string
  readonly source: string
  readonly recipe: ModelEntry['recipe']
  readonly folder: string
  readonly layers: string | null
  readonly ends: boolean
  /** Null: the files are damaged; `problem` says how. */
  readonly modelId: string | null
  readonly nLayers: number | null
  readonly bytes: number | null
  readonly problem: string | null
}

export async function listModels(home: Home): Promise<HeldModel[]> {
  const { models } = await loadConfig(home, { env: {} })
  return Promise.all(models.map((entry) => describeModel(home, entry)))
}

async function describeModel(home: Home, entry: ModelEntry): Promise<HeldModel> {
  const { name, source, recipe, layers, ends } = entry
  const folder = join(home.modelsFolder, entry.folder)
  try {
    const holding = await openHolding(folder)
    const bytes = [...holding.layers.values()].reduce((sum, layer) => sum + layer.bytes, 0)
    const { modelIdHex: modelId, spec } = holding
    return { name, source, recipe, folder, layers, ends, modelId, nLayers: spec.nLayers, bytes, problem: null }
  } catch (error) {
    const problem = (error as Error).message
    return { name, source, recipe, folder, layers, ends, modelId: null, nLayers: null, bytes: null, problem }
  }
}

/** Forgets a model and deletes its files. Throws MODEL_NOT_FOUND, HOME_IN_USE. */
export async function removeModel(home: Home, name: string): Promise<ModelEntry> {
  await assertNotRunning(home)
  const config = await loadConfig(home, { env: {} })
  const entry = findModel(config, name)
  // The configuration first: what it names is always there.
  await saveConfig(home, { ...config, models: config.models.filter((model) => model !== entry) })
  await rm(join(home.modelsFolder, entry.folder), { recursive: true, force: true })
  return entry
}

export interface VerifiedModel {
  readonly name: string
  readonly sound: boolean
  readonly files: readonly VerifiedFile[]
}

/** Reads every byte of one model, or of all. With `forget`, what is damaged counts as missing from then on. */
export async function verifyModels(
  home: Home,
  name: string | undefined,
  options: { forget: boolean; signal: AbortSignal; onFile?: (file: VerifiedFile) => void },
): Promise<VerifiedModel[]> {
  if (options.forget) await assertNotRunning(home)
  const config = await loadConfig(home, { env: {} })
  const entries = name === undefined ? config.models : [findModel(config, name)]
  const results: VerifiedModel[] = []
  for (const entry of entries) {
    results.push({ name: entry.name, ...(await verifyModel(join(home.modelsFolder, entry.folder), options)) })
  }
  return results
}

/** Fetches what is missing of a model that this home is set up for. Throws MODEL_NOT_FOUND and what setup throws. */
export async function completeModel(
  home: Home,
  name: string,
  run: { signal: AbortSignal; onProgress?: (progress: DownloadProgress) => void },
): Promise<SetupResult> {
  await assertNotRunning(home)
  const config = await loadConfig(home, { env: {} })
  const { source, layers, ends, recipe, pinned } = findModel(config, name)
  return setupModel(home, config, { model: source, layers: layers ?? 'none', ends, recipe, pinned, ...run })
}

/** A model of the catalogue by its repository, or the last part of it. Throws MODEL_NOT_FOUND. */
export async function catalogueModel(name: string): Promise<CatalogueModel> {
  const all = await readCatalogue()
  const wanted = name.toLowerCase()
  const found = all.find(({ repository }) => {
    const full = repository.toLowerCase()
    return full === wanted || full.endsWith(`/${wanted}`)
  })
  if (found !== undefined) return found
  throw new LlmNodeError('MODEL_NOT_FOUND', `The catalogue has no "${name}".`, {
    hint: 'llm-node models ls --all lists it; any other repository works by its name too: llm-node plan --model ORG/NAME',
  })
}

function findModel(config: Config, name: string): ModelEntry {
  const found = config.models.find((model) => model.name === name || model.folder === name)
  if (found !== undefined) return found
  const names = config.models.map((model) => model.name).join(', ')
  throw new LlmNodeError('MODEL_NOT_FOUND', `This home does not hold "${name}".`, {
    hint: names === '' ? 'It holds no model yet: llm-node setup' : `It holds: ${names}.`,
  })
}

async function assertNotRunning(home: Home): Promise<void> {
  const running = await readRunFile(home)
  if (running === undefined) return
  throw new LlmNodeError('HOME_IN_USE', `The node of this home runs (process ${running.pid}) and uses these files.`, {
    hint: 'Stop it first: llm-node stop',
  })
}
