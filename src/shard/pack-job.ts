import { createHash } from 'node:crypto'
import { closeSync, fsyncSync, openSync, readSync, writeSync } from 'node:fs'
import { LlmNodeError } from '../base/errors.ts'
import { downloadLimits } from '../base/limits.ts'
import type { LayerSpec, ModelSpec } from '../model/spec.ts'
import { computeLayerDigest } from './model-id.ts'
import { declareEnds, packedAlignment, packHeadRows, packLayer, packVector, type SourceTensor } from './pack.ts'
import type { RecipeId } from './recipe.ts'
import { encodeSafetensorsHeader, type TensorDeclaration, tensorBytes } from './safetensors.ts'
import type { UnitTensor } from './units.ts'
import { sourceBytes } from './widen.ts'

/** Turns a complete partial file into the file at `target`. Plain data: it may cross to a worker thread. */
export interface PackJob {
  readonly what: { readonly kind: 'layer'; readonly layer: LayerSpec } | EndsWork
  readonly recipe: RecipeId
  readonly tensors: readonly UnitTensor[]
  readonly partialPath: string
  readonly target: string
}

interface EndsWork {
  readonly kind: 'ends'
  readonly spec: ModelSpec
  readonly headTensor: string
}

export interface PackResult {
  /** Of the layer; null for the ends. */
  readonly digest: string | null
  readonly bytes: number
  readonly sha256: string
}

/** Bytes read, hashed and written at once: Node refuses single calls above 2 GiB. */
const sliceBytes = 16_777_216

/**
 * Reads, packs, writes and syncs, all blocking: meant for a worker thread. A layer is in memory packed, with one of its
 * tensors as source, the ends one block at a time. Throws MODEL_CORRUPT, MODEL_UNSUPPORTED, and the file system's errors.
 */
export function runPackJob(job: PackJob): PackResult {
  const partial = openSync(job.partialPath, 'r')
  const target = openSync(job.target, 'w+')
  try {
    const { what } = job
    if (what.kind === 'layer') return packLayerFile(partial, target, job, what.layer)
    return packEndsFile(partial, target, job, what)
  } finally {
    closeSync(partial)
    closeSync(target)
  }
}

function packLayerFile(partial: number, target: number, job: PackJob, layer: LayerSpec): PackResult {
  const digest = computeLayerDigest(
    job.tensors.map(({ name, at, begin, end }) => ({ name, pieces: pieces(partial, at, end - begin) })),
  )
  // Read again when its turn comes, from the cache of the system: one matrix lies in memory, not the layer.
  const source = (name: string): SourceTensor => {
    const { dtype, at, begin, end } = find(
      job.tensors.find((tensor) => tensor.name === name),
      name,
    )
    return { dtype, bytes: readExactly(partial, at, end - begin) }
  }
  const { header, parts } = packLayer(layer, job.recipe, source)
  const hash = createHash('sha256')
  let at = 0
  for (const part of [header, ...parts]) {
    for (const slice of slices(part)) {
      hash.update(slice)
      at = writeAt(target, at, slice)
    }
  }
  fsyncSync(target)
  return { digest, bytes: at, sha256: hash.digest('hex') }
}

function packEndsFile(partial: number, target: number, job: PackJob, { spec, headTensor }: EndsWork): PackResult {
  const tensor = (name: string) =>
    find(
      job.tensors.find((one) => one.name === name),
      name,
    )
  const embedding = tensor(spec.embedding.name)
  const head = tensor(headTensor)
  const declared = declareEnds(spec, job.recipe, embedding.dtype)
  const header = encodeSafetensorsHeader(declared, { alignment: packedAlignment, metadata: { recipe: job.recipe } })
  const offsets = offsetsOf(declared, header.length)
  writeAt(target, 0, header)
  const norm = tensor(spec.finalNorm.source.name)
  const normSource = { dtype: norm.dtype, bytes: readExactly(partial, norm.at, norm.end - norm.begin) }
  const normBytes = packVector([spec.finalNorm.source], spec.finalNorm.length, () => normSource)
  writeAt(target, offsets.of('final_norm'), normBytes)
  for (let done = 0; done < embedding.end - embedding.begin; done += sliceBytes) {
    const length = Math.min(sliceBytes, embedding.end - embedding.begin - done)
    writeAt(target, offsets.of('embedding') + done, readExactly(partial, embedding.at + done, length))
  }
  writeHead(partial, target, job.recipe, spec, head, offsets.of)
  fsyncSync(target)
  return { digest: null, bytes: offsets.end, sha256: hashFile(target, offsets.end) }
}

function writeHead(
  partial: number,
  target: number,
  recipe: RecipeId,
  spec: ModelSpec,
  head: UnitTensor,
  offsetOf: (name: string) => number,
): void {
  const rowBytes = spec.hiddenSize * sourceBytes(head.dtype)
  const atOnce = Math.max(1, Math.floor(downloadLimits.headBlockBytes / (4 * spec.hiddenSize)))
  for (let row = 0; row < spec.vocabSize; row += atOnce) {
    const rows = Math.min(atOnce, spec.vocabSize - row)
    const bytes = readExactly(partial, head.at + row * rowBytes, rows * rowBytes)
    for (const write of packHeadRows(spec, recipe, row, { dtype: head.dtype, bytes })) {
      const base = offsetOf(write.tensor) + write.offset
      for (let i = 0; i * write.runBytes < write.bytes.length; i++) {
        const run = write.bytes.subarray(i * write.runBytes, (i + 1) * write.runBytes)
        writeAt(target, base + i * write.stride, run)
      }
    }
  }
}

function offsetsOf(declared: readonly TensorDeclaration[], begin: number): { end: number; of(name: string): number } {
  const offsets = new Map<string, number>()
  let at = begin
  for (const { name, dtype, shape } of declared) {
    offsets.set(name, at)
    at += tensorBytes(dtype, shape)
  }
  return { end: at, of: (name) => find(offsets.get(name), name) }
}

function find<T>(value: T | undefined, name: string): T {
  if (value === undefined) throw new LlmNodeError('INTERNAL', `The job lacks ${name}.`)
  return value
}

function readExactly(fd: number, at: number, length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length)
  fill(fd, bytes, at)
  return bytes
}

function fill(fd: number, bytes: Uint8Array, at: number): void {
  for (let done = 0; done < bytes.length; ) {
    const read = readSync(fd, bytes, done, Math.min(sliceBytes, bytes.length - done), at + done)
    if (read === 0) throw new LlmNodeError('MODEL_CORRUPT', 'A partial file is shorter than its journal says.')
    done += read
  }
}

/** Returns the offset after the bytes. */
function writeAt(fd: number, at: number, bytes: Uint8Array): number {
  for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done, bytes.length - done, at + done)
  return at + bytes.length
}

/** One after the other in the same memory: each is to be used before the next is asked for. */
function* pieces(fd: number, at: number, length: number): Generator<Uint8Array> {
  const bytes = new Uint8Array(Math.min(sliceBytes, length))
  for (let done = 0; done < length; done += bytes.length) {
    const piece = bytes.subarray(0, Math.min(bytes.length, length - done))
    fill(fd, piece, at + done)
    yield piece
  }
}

function* slices(bytes: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += sliceBytes) yield bytes.subarray(at, at + sliceBytes)
}

function hashFile(fd: number, length: number): string {
  const hash = createHash('sha256')
  for (let at = 0; at < length; at += sliceBytes) hash.update(readExactly(fd, at, Math.min(sliceBytes, length - at)))
  return hash.digest('hex')
}
