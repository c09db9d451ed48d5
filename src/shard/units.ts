import { LlmNodeError } from '../base/errors.ts'
import { compareBytes } from './model-id.ts'
import { declareEnds, declareLayer, packedFileBytes } from './pack.ts'
import { endsFileName, layerFileName, type RecipeId } from './recipe.ts'
import { layerSources, type ModelSurvey, type PlacedTensor } from './survey.ts'

/** One file to be: a layer, or the ends. */
export interface Unit {
  /** null: the ends. */
  readonly layer: number | null
  readonly fileName: string
  /** In byte order of name; their bytes follow each other in the partial file. */
  readonly tensors: readonly UnitTensor[]
  readonly rawBytes: number
  readonly packedBytes: number
}

export interface UnitTensor extends PlacedTensor {
  /** Byte offset in the partial file. */
  readonly at: number
}

/** Half-open, in bytes. */
export interface ByteRange {
  readonly begin: number
  readonly end: number
}

/** One GET: bytes [begin, end) of a source file, of which the parts go to `at` in the partial file. */
export interface Piece extends ByteRange {
  readonly file: string
  readonly parts: readonly (ByteRange & { readonly at: number })[]
}

export function layerUnit(survey: ModelSurvey, layer: number, recipe: RecipeId): Unit {
  const spec = survey.spec.layers[layer]
  if (!spec) throw new LlmNodeError('SPAN', `The model has no layer ${layer}.`)
  const names = layerSources(spec).map(({ name }) => name)
  return {
    layer,
    fileName: layerFileName(layer, recipe),
    ...lineUp(survey, names),
    packedBytes: packedFileBytes(declareLayer(spec, recipe), recipe),
  }
}

export function endsUnit(survey: ModelSurvey, recipe: RecipeId): Unit {
  const { spec, headTensor } = survey
  const dtype = placed(survey, spec.embedding.name).dtype
  return {
    layer: null,
    fileName: endsFileName(recipe),
    ...lineUp(survey, [spec.embedding.name, spec.finalNorm.source.name, headTensor]),
    packedBytes: packedFileBytes(declareEnds(spec, recipe, dtype), recipe),
  }
}

function lineUp(survey: ModelSurvey, names: readonly string[]): Pick<Unit, 'tensors' | 'rawBytes'> {
  let rawBytes = 0
  const tensors = [...new Set(names)].sort(compareBytes).map((name) => {
    const tensor = placed(survey, name)
    const at = rawBytes
    rawBytes += tensor.end - tensor.begin
    return { ...tensor, at }
  })
  return { tensors, rawBytes }
}

function placed(survey: ModelSurvey, name: string): PlacedTensor {
  const tensor = survey.tensors.get(name)
  if (!tensor) throw new LlmNodeError('INTERNAL', `The survey lacks ${name}.`)
  return tensor
}

/**
 * The GETs that bring what is missing of a unit. Neighbours in a file with a gap of at most `gapBytes` become one, as
 * long as the gaps together stay below `gapShare` of the missing bytes; none is longer than `pieceBytes`.
 */
export function planPieces(
  unit: Unit,
  done: readonly ByteRange[],
  limits: { pieceBytes: number; gapBytes: number; gapShare: number },
): Piece[] {
  const missing = missingParts(unit, done)
  let gapsLeft = missing.reduce((sum, { begin, end }) => sum + end - begin, 0) * limits.gapShare
  const pieces: { file: string; begin: number; end: number; parts: (ByteRange & { at: number })[] }[] = []
  for (const { file, begin, end, at } of missing) {
    for (let from = begin; from < end; ) {
      const last = pieces.at(-1)
      const gap = last?.file === file ? from - last.end : Number.POSITIVE_INFINITY
      const room = last ? last.begin + limits.pieceBytes - from : 0
      const joins = last && gap <= limits.gapBytes && gap <= gapsLeft && room > 0
      const to = Math.min(end, from + (joins ? room : limits.pieceBytes))
      const part = { begin: from, end: to, at: at + from - begin }
      if (joins) {
        gapsLeft -= gap
        last.parts.push(part)
        last.end = to
      } else {
        pieces.push({ file, begin: from, end: to, parts: [part] })
      }
      from = to
    }
  }
  return pieces
}

/** In the order of the source files. */
function missingParts(unit: Unit, done: readonly ByteRange[]): (ByteRange & { file: string; at: number })[] {
  const parts: (ByteRange & { file: string; at: number })[] = []
  for (const { file, begin, end, at } of unit.tensors) {
    let from = at
    const stop = at + end - begin
    const add = (to: number) => {
      if (to > from) parts.push({ file, begin: begin + from - at, end: begin + to - at, at: from })
    }
    for (const range of done) {
      if (range.end <= from || range.begin >= stop) continue
      add(range.begin)
      from = range.end
    }
    add(stop)
  }
  return parts.sort((a, b) => compareBytes(a.file, b.file) || a.begin - b.begin)
}

/** Sorted, and merged where they touch or overlap. */
export function mergeRanges(ranges: readonly ByteRange[]): ByteRange[] {
  const merged: { begin: number; end: number }[] = []
  for (const { begin, end } of [...ranges].sort((a, b) => a.begin - b.begin)) {
    const last = merged.at(-1)
    if (last && begin <= last.end) last.end = Math.max(last.end, end)
    else merged.push({ begin, end })
  }
  return merged
}
