import { createHash } from 'node:crypto'
import { open, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { fromHex } from '../base/bytes.ts'
import { LlmNodeError } from '../base/errors.ts'
import type { Span } from '../base/span.ts'
import { parseModelConfig } from '../model/config.ts'
import type { ModelSpec } from '../model/spec.ts'
import { type HeldFile, type ModelManifest, readManifest, writeManifest } from './manifest.ts'
import type { RecipeId } from './recipe.ts'
import { configFile } from './survey.ts'

export interface HeldLayer {
  readonly layer: number
  readonly path: string
  /** 4 bytes as hex: what adverts carry (engine.md §2). */
  readonly digest: string
  readonly bytes: number
}

/** What this node holds of a model, as files that are there and of the right length. */
export interface Holding {
  readonly folder: string
  readonly spec: ModelSpec
  /** 32 bytes. */
  readonly modelId: Uint8Array
  readonly modelIdHex: string
  readonly recipe: RecipeId
  readonly source: string
  readonly layers: ReadonlyMap<number, HeldLayer>
  /** Contiguous runs of held layers, ascending. */
  readonly spans: readonly Span[]
  readonly endsPath: string | null
  /** config.json and, with the ends, tokenizer.json and its companions: name → path. */
  readonly files: ReadonlyMap<string, string>
}

/** Throws MODEL_NOT_FOUND (nothing there), MODEL_CORRUPT (a file is missing or of another length), MODEL_UNSUPPORTED. */
export async function openHolding(folder: string): Promise<Holding> {
  const manifest = await readManifest(folder)
  if (!manifest) {
    throw new LlmNodeError('MODEL_NOT_FOUND', `${folder} holds no model.`, {
      hint: 'Fetch one first: llm-node models pull.',
    })
  }
  for (const file of heldFiles(manifest)) {
    if ((await sizeOf(join(folder, file.name))) !== file.bytes) throw damaged(folder, file.name)
  }
  const path = (file: HeldFile) => join(folder, file.name)
  const files = new Map(manifest.files.map((file) => [file.name, path(file)]))
  const layers = manifest.layers.map((file): [number, HeldLayer] => {
    const { layer, digest, bytes } = file
    return [layer, { layer, digest, bytes, path: path(file) }]
  })
  return {
    folder,
    spec: await readSpec(folder, files),
    modelId: fromHex(manifest.modelId),
    modelIdHex: manifest.modelId,
    recipe: manifest.recipe,
    source: manifest.source,
    layers: new Map(layers.sort(([a], [b]) => a - b)),
    spans: spansOf(manifest.layers.map(({ layer }) => layer)),
    endsPath: manifest.ends && path(manifest.ends),
    files,
  }
}

export interface VerifiedFile {
  readonly name: string
  readonly state: 'sound' | 'missing' | 'damaged'
}

/**
 * Reads every file of a model and compares its SHA-256 with the manifest. With `forget`, what is not sound is struck
 * from the manifest, so that the next download fetches it again; `only` is the path of the one file to read. Throws MODEL_NOT_FOUND, MODEL_CORRUPT, ABORTED.
 */
export async function verifyModel(
  folder: string,
  options: { forget?: boolean; only?: string; signal?: AbortSignal; onFile?: (file: VerifiedFile) => void } = {},
): Promise<{ readonly sound: boolean; readonly files: readonly VerifiedFile[] }> {
  const manifest = await readManifest(folder)
  if (!manifest) throw new LlmNodeError('MODEL_NOT_FOUND', `${folder} holds no model.`)
  const files: VerifiedFile[] = []
  const wanted = heldFiles(manifest).filter(
    ({ name }) => options.only === undefined || join(folder, name) === options.only,
  )
  for (const { name, sha256 } of wanted) {
    const found = await hashFile(join(folder, name), options.signal)
    const file: VerifiedFile = { name, state: found === null ? 'missing' : found === sha256 ? 'sound' : 'damaged' }
    files.push(file)
    options.onFile?.(file)
  }
  const sound = files.every(({ state }) => state === 'sound')
  if (!sound && options.forget) {
    const good = new Set(files.filter(({ state }) => state === 'sound').map(({ name }) => name))
    await writeManifest(
      folder,
      keepFiles(manifest, ({ name }) => good.has(name)),
    )
  }
  return { sound, files }
}

/** The manifest without the files that `keep` says no to. */
export function keepFiles(manifest: ModelManifest, keep: (file: HeldFile) => boolean): ModelManifest {
  return {
    ...manifest,
    layers: manifest.layers.filter(keep),
    ends: manifest.ends && keep(manifest.ends) ? manifest.ends : null,
    files: manifest.files.filter(keep),
  }
}

export function heldFiles(manifest: ModelManifest): HeldFile[] {
  return [...manifest.files, ...manifest.layers, ...(manifest.ends ? [manifest.ends] : [])]
}

/** Bytes; null when there is no such file. */
export async function sizeOf(path: string): Promise<number | null> {
  return stat(path).then(
    ({ size }) => size,
    () => null,
  )
}

async function hashFile(path: string, signal: AbortSignal | undefined): Promise<string | null> {
  if ((await sizeOf(path)) === null) return null
  const hash = createHash('sha256')
  // One buffer for all of it: a stream's chunks would stay in memory until somebody collects them (measured: 45 MB).
  const buffer = Buffer.allocUnsafeSlow(1_048_576)
  const file = await open(path)
  try {
    for (;;) {
      if (signal?.aborted) throw new LlmNodeError('ABORTED', 'Stopped on request.')
      const { bytesRead } = await file.read(buffer)
      if (bytesRead === 0) return hash.digest('hex')
      hash.update(buffer.subarray(0, bytesRead))
    }
  } finally {
    await file.close()
  }
}

async function readSpec(folder: string, files: ReadonlyMap<string, string>): Promise<ModelSpec> {
  const read = async (name: string): Promise<unknown> => {
    const path = files.get(name)
    if (path === undefined) return undefined
    try {
      return JSON.parse(await readFile(path, 'utf8'))
    } catch {
      throw damaged(folder, name)
    }
  }
  const config = await read(configFile)
  if (config === undefined) throw damaged(folder, configFile)
  return parseModelConfig(config, await read('generation_config.json'))
}

function spansOf(layers: readonly number[]): Span[] {
  const spans: { start: number; end: number }[] = []
  for (const layer of [...layers].sort((a, b) => a - b)) {
    const last = spans.at(-1)
    if (last?.end === layer) last.end++
    else spans.push({ start: layer, end: layer + 1 })
  }
  return spans
}

function damaged(folder: string, file: string): LlmNodeError {
  return new LlmNodeError('MODEL_CORRUPT', `${file} in ${folder} is missing or damaged.`, {
    hint: 'Fetch it again: llm-node models pull.',
    meta: { file },
  })
}
