import { fromUtf8, utf8 } from '../base/bytes.ts'
import { LlmNodeError } from '../base/errors.ts'
import { downloadLimits } from '../base/limits.ts'
import { parseModelConfig } from '../model/config.ts'
import type { LayerSpec, ModelSpec, TensorSource } from '../model/spec.ts'
import { createLimiter } from './limiter.ts'
import { computeModelId } from './model-id.ts'
import { parseSafetensorsHeader, readHeaderLength, type TensorEntry } from './safetensors.ts'
import type { FileVersion, ModelSource } from './source.ts'
import { isSourceDtype, type SourceDtype } from './widen.ts'

/** What a source says about a model before any weight: kept in the folder, so that a second run asks nothing twice. */
export interface SurveyEvidence {
  readonly source: string
  readonly config: string
  /** null: a single weight file without an index. */
  readonly index: string | null
  readonly weightFiles: readonly WeightFileEvidence[]
}

export interface WeightFileEvidence extends FileVersion {
  readonly name: string
  /** The JSON header exactly as the file has it. */
  readonly header: string
}

/** A wanted tensor and where its bytes are. */
export interface PlacedTensor {
  readonly name: string
  readonly file: string
  readonly dtype: SourceDtype
  readonly shape: readonly number[]
  /** Byte offsets in the file. */
  readonly begin: number
  readonly end: number
}

export interface ModelSurvey {
  readonly evidence: SurveyEvidence
  readonly modelId: string
  /** From config.json alone: its end tokens may lack those of generation_config.json. */
  readonly spec: ModelSpec
  readonly versions: ReadonlyMap<string, FileVersion>
  /** Every tensor that the spec wants, of the right shape. */
  readonly tensors: ReadonlyMap<string, PlacedTensor>
  /** The tensor that the head is packed from: the embedding when the model is tied and stores no head of its own. */
  readonly headTensor: string
}

export const configFile = 'config.json'
const indexFile = 'model.safetensors.index.json'
const singleFile = 'model.safetensors'

/** Reads config, index and the header of every weight file: a few KB each, enough for model id, spec and plan. */
export async function surveyModel(source: ModelSource, options: { signal?: AbortSignal } = {}): Promise<ModelSurvey> {
  const config = await source.readFile(configFile, { ...options, maxBytes: downloadLimits.configBytes })
  if (!config) {
    throw new LlmNodeError('MODEL_NOT_FOUND', `${source.id} has no ${configFile}.`, {
      hint: 'Check the name of the model.',
    })
  }
  const configText = decode(config, configFile)
  const spec = parseModelConfig(parseJson(configText, configFile))
  const index = await source.readFile(indexFile, { ...options, maxBytes: downloadLimits.indexBytes })
  const indexText = index && decode(index, indexFile)
  const expected = expectedNames(spec, indexText)
  const limit = createLimiter(downloadLimits.parallelGets)
  const weightFiles = await Promise.all(
    [...expected].map(([file, names]) => limit(() => readHeader(source, file, names, options))),
  )
  return readEvidence({ source: source.id, config: configText, index: indexText, weightFiles })
}

/**
 * Everything that follows from the evidence; pure. Throws MODEL_UNSUPPORTED and MODEL_CORRUPT, naming tensor and file,
 * when the files do not hold exactly what the config promises.
 */
export function readEvidence(evidence: SurveyEvidence): ModelSurvey {
  const spec = parseModelConfig(parseJson(evidence.config, configFile))
  const stored = new Map<string, TensorEntry & { file: string }>()
  const parts = evidence.weightFiles.map(({ name, header, fileBytes }) => {
    const json = utf8(header)
    for (const entry of parseSafetensorsHeader(json, fileBytes, name).tensors.values()) {
      if (stored.has(entry.name)) throw corrupt(entry.name, `is in both ${stored.get(entry.name)?.file} and ${name}`)
      stored.set(entry.name, { ...entry, file: name })
    }
    const length = new DataView(new ArrayBuffer(8))
    length.setBigUint64(0, BigInt(json.length), true)
    return { name, bytes: Buffer.concat([new Uint8Array(length.buffer), json]) }
  })
  const place = (wanted: TensorSource): [string, PlacedTensor] => [wanted.name, placeTensor(wanted, stored)]
  const tied = spec.tiedEmbeddings && !stored.has(spec.head.name)
  const sources = [
    spec.embedding,
    spec.finalNorm.source,
    ...(tied ? [] : [spec.head]),
    ...spec.layers.flatMap(layerSources),
  ]
  const tensors = new Map(sources.map(place))
  refuseUnknownTensors(stored.keys(), tensors, spec.nLayers)
  const index = evidence.index === null ? null : { name: indexFile, bytes: utf8(evidence.index) }
  return {
    evidence,
    modelId: computeModelId({ name: configFile, bytes: utf8(evidence.config) }, index, parts),
    spec,
    versions: new Map(evidence.weightFiles.map(({ name, version, fileBytes }) => [name, { version, fileBytes }])),
    tensors,
    headTensor: tied ? spec.embedding.name : spec.head.name,
  }
}

/** The source tensors of a layer; one that is cut into slices comes once per slice. */
export function layerSources(layer: LayerSpec): TensorSource[] {
  return [
    ...layer.vectors.map(({ source }) => source),
    ...layer.linears.flatMap(({ weight, bias }) => [...weight, ...bias]),
  ]
}

/** Weight file → names of the tensors that it should hold; also the guess for the length of its header. */
function expectedNames(spec: ModelSpec, index: string | null): Map<string, string[]> {
  if (index === null) {
    const sources = [spec.embedding, spec.finalNorm.source, ...spec.layers.flatMap(layerSources)]
    return new Map([[singleFile, sources.map(({ name }) => name)]])
  }
  const parsed = parseJson(index, indexFile)
  const map = typeof parsed === 'object' && parsed !== null && 'weight_map' in parsed ? parsed.weight_map : null
  if (typeof map !== 'object' || map === null) throw corrupt(indexFile, 'has no weight_map')
  const files = new Map<string, string[]>()
  for (const [tensor, file] of Object.entries(map)) {
    // Names become paths and addresses: plain file names only.
    if (typeof file !== 'string' || !/^[A-Za-z0-9][\w.-]{0,200}\.safetensors$/.test(file)) {
      throw corrupt(indexFile, `names the file ${JSON.stringify(file)}`)
    }
    const names = files.get(file) ?? []
    names.push(tensor)
    files.set(file, names)
    if (files.size > downloadLimits.weightFiles) throw corrupt(indexFile, 'names too many files')
  }
  return files
}

/** Bytes of a header entry besides its name: dtype, shape and offsets as writers write them, for matrices of 1 GB. */
const entryBytes = 76

async function readHeader(
  source: ModelSource,
  file: string,
  names: readonly string[],
  options: { signal?: AbortSignal },
): Promise<WeightFileEvidence> {
  // One request when the guess is long enough, and little too much when it is not.
  const guess = names.reduce((sum, name) => sum + name.length + entryBytes, 64)
  const first = await source.openRange({ ...options, file, begin: 0, end: guess })
  const known = { version: first.version, fileBytes: first.fileBytes }
  const start = await collect(first.chunks, first.end)
  const length = readHeaderLength(start, first.fileBytes, file)
  const json = new Uint8Array(length)
  json.set(start.subarray(8, 8 + length))
  if (8 + length > first.end) {
    const rest = await source.openRange({ ...options, file, begin: first.end, end: 8 + length, known })
    json.set(await collect(rest.chunks, 8 + length - first.end), first.end - 8)
  }
  return { name: file, header: decode(json, file), ...known }
}

async function collect(chunks: AsyncIterable<Uint8Array>, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length)
  let at = 0
  for await (const chunk of chunks) {
    bytes.set(chunk, at)
    at += chunk.length
  }
  return bytes
}

function placeTensor(wanted: TensorSource, stored: ReadonlyMap<string, TensorEntry & { file: string }>): PlacedTensor {
  const entry = stored.get(wanted.name)
  if (!entry) throw corrupt(wanted.name, 'is in none of the weight files')
  const { dtype, shape, file, begin, end } = entry
  const [expected, found] = [wanted.shape, shape].map((dims) => `[${dims.join(', ')}]`)
  if (expected !== found)
    throw corrupt(wanted.name, `in ${file} has the shape ${found}, the config asks for ${expected}`)
  if (!isSourceDtype(dtype)) {
    throw new LlmNodeError('MODEL_UNSUPPORTED', `${wanted.name} in ${file} has the dtype ${dtype}.`, {
      hint: 'Choose a copy of the model in BF16, F16 or F32.',
      meta: { tensor: wanted.name, file },
    })
  }
  return { name: wanted.name, file, dtype, shape, begin, end }
}

/**
 * A tensor inside a layer that the spec does not use would mean that the model computes something else. Old Llama files
 * carry their rotation frequencies, which follow from the config.
 */
function refuseUnknownTensors(names: Iterable<string>, wanted: ReadonlyMap<string, unknown>, nLayers: number): void {
  for (const name of names) {
    const layer = /^model\.layers\.(\d+)\./.exec(name)?.[1]
    if (layer === undefined || Number(layer) >= nLayers || wanted.has(name) || name.endsWith('.inv_freq')) continue
    throw new LlmNodeError('MODEL_UNSUPPORTED', `The weights hold ${name}, which this kind of model does not have.`, {
      hint: 'The config.json may not belong to these weights.',
      meta: { tensor: name },
    })
  }
}

function decode(bytes: Uint8Array, file: string): string {
  // A byte order mark would be dropped by the decoder and so change the model id.
  const marked = bytes[0] === 0xef && bytes[1] === 0xbb
  try {
    if (!marked) return fromUtf8(bytes)
  } catch {
    // Said below.
  }
  throw corrupt(file, 'is not UTF-8 text')
}

function parseJson(text: string, file: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new LlmNodeError('MODEL_CORRUPT', `${file} is not JSON.`, { cause, meta: { file } })
  }
}

function corrupt(what: string, why: string): LlmNodeError {
  return new LlmNodeError('MODEL_CORRUPT', `${what} ${why}.`, {
    hint: 'Check that the source holds the whole model, unchanged.',
    meta: { what },
  })
}
