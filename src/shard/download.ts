import { mkdir, readdir, rename, rm, stat, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { isLlmNodeError, LlmNodeError } from '../base/errors.ts'
import { downloadLimits } from '../base/limits.ts'
import { formatSpan, type Span } from '../base/span.ts'
import { companionFiles, fetchCompanions, writeConfig } from './companions.ts'
import { toStorageError } from './disk-error.ts'
import { type FetchContext, fetchUnit } from './fetch-unit.ts'
import { type Holding, heldFiles, keepFiles, openHolding, sizeOf } from './holding.ts'
import { createLimiter } from './limiter.ts'
import {
  type ModelManifest,
  type PackedModelFile,
  readManifest,
  readSurvey,
  writeManifest,
  writeSurvey,
} from './manifest.ts'
import { createPacker, type Packer } from './packer.ts'
import { partialName, removePartial } from './partial.ts'
import type { RecipeId } from './recipe.ts'
import type { ModelSource } from './source.ts'
import { type ModelSurvey, readEvidence, surveyModel } from './survey.ts'
import { endsUnit, layerUnit, type Unit } from './units.ts'

export interface DownloadProgress {
  /** Source bytes of the wanted layers and ends; those of held ones are not counted. */
  readonly bytesDone: number
  readonly bytesTotal: number
  /** Layers, and the ends as one more. */
  readonly filesDone: number
  readonly filesTotal: number
}

export interface DownloadOptions {
  readonly source: ModelSource
  /** One folder per model and recipe. Made when missing. */
  readonly folder: string
  readonly recipe: RecipeId
  /** The layers to hold afterwards; null: none. */
  readonly span: Span | null
  /** Hold embedding, final norm, head and tokenizer too. */
  readonly ends: boolean
  readonly signal?: AbortSignal
  readonly onProgress?: (progress: DownloadProgress) => void
}

export interface DownloadDeps {
  /** Bytes that may still be written in `folder`. */
  freeBytes(folder: string): Promise<number>
  /** What a kill may lose of each GET under way. */
  readonly chunkBytes: number
}

const realDeps: DownloadDeps = {
  async freeBytes(folder) {
    const { bavail, bsize } = await statfs(folder)
    return bavail * bsize
  },
  chunkBytes: downloadLimits.chunkBytes,
}

/** Source files of at most this many units lie on the disk at once, besides what is packed. */
const unitsUnderWay = 3

/**
 * Makes `folder` hold exactly the wanted layers and ends: fetches what is missing, keeps what is held, removes the rest.
 * A run that was stopped or killed goes on where it was. Not for two callers at once on one folder.
 * Throws BAD_INPUT, MODEL_*, DOWNLOAD_FAILED, DISK_FULL, ABORTED.
 */
export async function downloadModel(options: DownloadOptions, deps: DownloadDeps = realDeps): Promise<Holding> {
  await mkdir(options.folder, { recursive: true })
  await removeLeftovers(options.folder)
  for (let restart = 0; ; restart++) {
    try {
      await downloadOnce(options, deps, restart === 0)
      return await openHolding(options.folder)
    } catch (error) {
      const again = isLlmNodeError(error, 'MODEL_CHANGED') && error.meta.final !== true
      if (!again || restart === downloadLimits.restarts) throw error
    }
  }
}

async function downloadOnce(options: DownloadOptions, deps: DownloadDeps, trustSurvey: boolean): Promise<void> {
  const { folder, recipe } = options
  const earlier = await readSound(folder, recipe)
  const survey = await openSurvey(options, earlier, trustSurvey)
  const { spec, modelId } = survey
  assertSpan(options.span, spec.nLayers)
  let manifest = await adopt(folder, earlier, survey, options)
  const wanted = unitsOf(survey, options)
  const held = new Set(heldFiles(manifest).map(({ name }) => name))
  const missing = wanted.filter(({ fileName }) => !held.has(fileName))
  await removePartials(folder, missing)
  await assertDiskSpace(folder, missing, deps)
  const save = async (next: ModelManifest) => {
    await writeManifest(folder, next)
    manifest = next
  }
  if (earlier?.modelId !== modelId || !held.has('config.json')) await save(await writeConfig(folder, manifest, survey))
  if (options.ends && !held.has('tokenizer.json')) await save(await fetchCompanions(options, manifest))
  await fetchAndPack(missing, survey, options, deps, async (unit, file, digest) => {
    await save(withUnit(manifest, unit, file, digest))
    await removePartial(join(folder, partialName(unit.fileName)))
  })
  await removeUnwanted(folder, manifest, wanted, options.ends)
}

/** The manifest without files that are gone or of another length. Throws BAD_INPUT when it is of another recipe. */
async function readSound(folder: string, recipe: RecipeId): Promise<ModelManifest | null> {
  const manifest = await readManifest(folder)
  if (!manifest) return null
  if (manifest.recipe !== recipe) {
    throw new LlmNodeError('BAD_INPUT', `${folder} holds the model in ${manifest.recipe}, not in ${recipe}.`, {
      hint: 'Use another folder for another recipe.',
    })
  }
  const sizes = new Map<string, number | null>()
  for (const { name } of heldFiles(manifest)) sizes.set(name, await sizeOf(join(folder, name)))
  return keepFiles(manifest, ({ name, bytes }) => sizes.get(name) === bytes)
}

/** From the folder when it was made from this source; then nothing is asked twice, and a change shows at the first GET. */
async function openSurvey(
  { folder, source, signal }: DownloadOptions,
  earlier: ModelManifest | null,
  trusted: boolean,
): Promise<ModelSurvey> {
  const evidence = trusted ? await readSurvey(folder) : null
  if (evidence?.source === source.id) {
    const survey = readEvidence(evidence)
    if (!earlier || earlier.modelId === survey.modelId) return survey
  }
  const survey = await surveyModel(source, signal ? { signal } : {})
  await writeSurvey(folder, survey.evidence)
  return survey
}

/** The manifest to go on from: without what has since changed at its source. */
async function adopt(
  folder: string,
  earlier: ModelManifest | null,
  survey: ModelSurvey,
  { recipe, source }: DownloadOptions,
): Promise<ModelManifest> {
  const { modelId } = survey
  const fresh: ModelManifest = { format: 1, modelId, recipe, source: source.id, layers: [], ends: null, files: [] }
  if (!earlier || (earlier.layers.length === 0 && !earlier.ends && earlier.modelId !== modelId)) return fresh
  if (earlier.modelId !== modelId) {
    throw new LlmNodeError('MODEL_CHANGED', `${source.id} is no longer the model that ${folder} holds.`, {
      hint: 'Remove the held one, or use another folder for the new one.',
      meta: { held: earlier.modelId, found: modelId, final: true },
    })
  }
  const current = ({ source: from, versions }: PackedModelFile) =>
    from !== source.id ||
    Object.entries(versions).every(([file, version]) => survey.versions.get(file)?.version === version)
  const ends = earlier.ends && current(earlier.ends) ? earlier.ends : null
  return { ...earlier, source: source.id, layers: earlier.layers.filter(current), ends }
}

function unitsOf(survey: ModelSurvey, { span, ends, recipe }: DownloadOptions): Unit[] {
  const units: Unit[] = []
  for (let layer = span?.start ?? 0; layer < (span?.end ?? 0); layer++) units.push(layerUnit(survey, layer, recipe))
  if (ends) units.push(endsUnit(survey, recipe))
  return units
}

function assertSpan(span: Span | null, nLayers: number): void {
  if (!span) return
  if (Number.isInteger(span.start) && 0 <= span.start && span.start < span.end && span.end <= nLayers) return
  throw new LlmNodeError('BAD_INPUT', `The model has ${nLayers} layers; ${formatSpan(span)} is not among them.`, {
    hint: `Choose from 0-${nLayers - 1}.`,
    meta: { nLayers },
  })
}

/** Packed files to come, and the largest source files that lie beside them while they are made. */
async function assertDiskSpace(folder: string, missing: readonly Unit[], deps: DownloadDeps): Promise<void> {
  if (missing.length === 0) return
  const raw = missing.map(({ rawBytes }) => rawBytes).sort((a, b) => b - a)
  const sum = (sizes: readonly number[]) => sizes.reduce((total, size) => total + size, 0)
  let lying = 0
  for (const { fileName } of missing) lying += await allocatedBytes(join(folder, partialName(fileName)))
  const packed = sum(missing.map(({ packedBytes }) => packedBytes))
  const needBytes = packed + sum(raw.slice(0, unitsUnderWay)) + downloadLimits.diskSpareBytes - lying
  const freeBytes = await deps.freeBytes(folder)
  if (freeBytes >= needBytes) return
  const [need, free] = [needBytes, freeBytes].map((bytes) => `${Math.ceil(bytes / 1e6)} MB`)
  throw new LlmNodeError('DISK_FULL', `The download needs ${need}, and ${folder} has ${free} free.`, {
    hint: 'Free some space, choose fewer layers, or a smaller recipe.',
    meta: { needBytes, freeBytes },
  })
}

/** What a file takes on the disk: a partial file has holes. */
async function allocatedBytes(path: string): Promise<number> {
  return stat(path).then(
    ({ blocks }) => blocks * 512,
    () => 0,
  )
}

type Finished = (unit: Unit, file: PackedModelFile, digest: string | null) => Promise<void>

/** Units are fetched side by side and packed one after the other. The first failure ends all of them. */
async function fetchAndPack(
  units: readonly Unit[],
  survey: ModelSurvey,
  options: DownloadOptions,
  deps: DownloadDeps,
  finished: Finished,
): Promise<void> {
  const stop = new AbortController()
  const signal = options.signal ? AbortSignal.any([options.signal, stop.signal]) : stop.signal
  const progress = createProgress(units, options.onProgress)
  const context: FetchContext = {
    folder: options.folder,
    source: options.source,
    survey,
    gets: createLimiter(downloadLimits.parallelGets),
    signal,
    chunkBytes: deps.chunkBytes,
    onBytes: progress.bytes,
  }
  const underWay = createLimiter(unitsUnderWay)
  const packing = createLimiter(1)
  const packer = createPacker()
  const endThread = () => void packer.close()
  signal.addEventListener('abort', endThread, { once: true })
  let first: { error: unknown } | undefined
  const run = async (unit: Unit) => {
    if (signal.aborted) return
    try {
      const partial = await fetchUnit(unit, context)
      await packing(async () => {
        const { file, digest } = await packUnit(unit, partial, survey, options, packer)
        await finished(unit, file, digest)
      })
      progress.file()
    } catch (error) {
      first ??= { error }
      stop.abort()
    }
  }
  try {
    await Promise.all(units.map((unit) => underWay(() => run(unit))))
  } finally {
    signal.removeEventListener('abort', endThread)
    await packer.close()
  }
  if (options.signal?.aborted) throw new LlmNodeError('ABORTED', 'Stopped on request.')
  if (first) throw toStorageError(first.error)
}

async function packUnit(
  unit: Unit,
  partialPath: string,
  survey: ModelSurvey,
  { folder, recipe, source }: DownloadOptions,
  packer: Packer,
): Promise<{ file: PackedModelFile; digest: string | null }> {
  const { spec, headTensor, versions } = survey
  const target = join(folder, `${unit.fileName}.tmp`)
  const layer = unit.layer === null ? undefined : spec.layers[unit.layer]
  const { digest, bytes, sha256 } = await packer.pack({
    what: layer ? { kind: 'layer', layer } : { kind: 'ends', spec, headTensor },
    recipe,
    tensors: unit.tensors,
    partialPath,
    target,
  })
  await rename(target, join(folder, unit.fileName))
  const files = [...new Set(unit.tensors.map(({ file }) => file))].sort()
  const seen = files.map((file): [string, string | null] => [file, versions.get(file)?.version ?? null])
  return {
    file: { name: unit.fileName, bytes, sha256, source: source.id, versions: Object.fromEntries(seen) },
    digest,
  }
}

function withUnit(manifest: ModelManifest, unit: Unit, file: PackedModelFile, digest: string | null): ModelManifest {
  if (unit.layer === null || digest === null) return { ...manifest, ends: file }
  const layers = [...manifest.layers, { ...file, layer: unit.layer, digest }].sort((a, b) => a.layer - b.layer)
  return { ...manifest, layers }
}

function createProgress(units: readonly Unit[], report: DownloadOptions['onProgress']) {
  const bytesTotal = units.reduce((sum, { rawBytes }) => sum + rawBytes, 0)
  let bytesDone = 0
  let filesDone = 0
  const tell = () => report?.({ bytesDone, bytesTotal, filesDone, filesTotal: units.length })
  return {
    bytes(bytes: number) {
      bytesDone += bytes
      tell()
    },
    file() {
      filesDone++
      tell()
    },
  }
}

/** What a killed run may leave: files that were being written. */
async function removeLeftovers(folder: string): Promise<void> {
  for (const name of await readdir(folder)) if (name.endsWith('.tmp')) await rm(join(folder, name), { force: true })
}

async function removePartials(folder: string, missing: readonly Unit[]): Promise<void> {
  const kept = new Set(missing.map(({ fileName }) => partialName(fileName)))
  for (const name of await readdir(folder)) {
    if (name.endsWith('.partial') && !kept.has(name)) await removePartial(join(folder, name))
  }
}

/** The manifest first: a file that it names is always there. */
async function removeUnwanted(
  folder: string,
  manifest: ModelManifest,
  wanted: readonly Unit[],
  ends: boolean,
): Promise<void> {
  const names = new Set([...wanted.map(({ fileName }) => fileName), 'config.json', ...(ends ? companionFiles : [])])
  const kept = keepFiles(manifest, ({ name }) => names.has(name))
  const gone = heldFiles(manifest).filter(({ name }) => !names.has(name))
  if (gone.length === 0) return
  await writeManifest(folder, kept)
  for (const { name } of gone) await rm(join(folder, name), { force: true })
}
