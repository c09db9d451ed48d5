import { LlmNodeError } from '../base/errors.ts'
import { formatSpan, type Span, spanLength } from '../base/span.ts'
import { kvBudget, usableMemory } from '../coverage/fit.ts'
import type { ModelSpec } from '../model/spec.ts'
import type { Holding } from '../shard/holding.ts'
import { kvBytesPerPosition } from '../shard/kv.ts'
import { declareLayer, packedFileBytes } from '../shard/pack.ts'
import type { RecipeId } from '../shard/recipe.ts'
import { graphBytes, headBytes } from './model-figures.ts'

/**
 * Everything but weights, graphs and keys and values. Measured, resident after the start, with the demo model and with 4
 * and 16 layers of Qwen3-0.6B's shape in i8, q4 and f32: 265 to 275 MB (tests/long/memory.test.ts).
 */
export const processBytes = 270_000_000
/** Sessions that shall find room for their keys and values at once, and the tokens of each. */
const wantedSessions = 2
const wantedContext = 2_048
/** A node that cannot take a session of that many tokens is of no use to anybody. */
const leastContext = 256

export function kvTokensWanted(spec: ModelSpec): number {
  return wantedSessions * Math.min(wantedContext, spec.maxContext)
}

/** Layers with their graphs and ends in memory, without keys and values. Bytes. Throws SPAN, MODEL_UNSUPPORTED. */
export function loadedBytes(spec: ModelSpec, recipe: RecipeId, span: Span | null, ends: boolean): number {
  let bytes = ends ? headBytes(spec, recipe) : 0
  for (let layer = span?.start ?? 0; layer < (span?.end ?? 0); layer++) {
    const found = spec.layers[layer]
    if (found === undefined) {
      throw new LlmNodeError('SPAN', `The model has ${spec.nLayers} layers; there is no layer ${layer}.`, {
        hint: `Choose from 0-${spec.nLayers - 1}.`,
      })
    }
    bytes += packedFileBytes(declareLayer(found, recipe), recipe) + graphBytes(spec)
  }
  return bytes
}

/** Throws OUT_OF_MEMORY with the figures when this could not run on a machine with `memoryBytes`, however idle. */
export function assertHoldable(
  what: { readonly name: string; readonly spec: ModelSpec; readonly recipe: RecipeId; readonly span: Span | null },
  options: { readonly ends: boolean; readonly memoryBytes: number },
): void {
  const { name, spec, recipe, span } = what
  const loaded = loadedBytes(spec, recipe, span, options.ends)
  const kv = span === null ? 0 : spanLength(span) * kvBytesPerPosition(spec) * leastContext
  const needBytes = loaded + kv + processBytes
  const usable = usableMemory(options.memoryBytes)
  if (needBytes <= usable) return
  const layers = span === null ? 'the ends' : `layers ${formatSpan(span)}${options.ends ? ' and the ends' : ''}`
  throw new LlmNodeError(
    'OUT_OF_MEMORY',
    `In ${recipe}, ${layers} of ${name} need ${mb(needBytes)} of memory; ${mb(usable)} of the ${mb(options.memoryBytes)} here may be used.`,
    {
      hint: 'Hold fewer layers or take the recipe q4; llm-node plan says what fits.',
      meta: { needBytes, usableBytes: usable },
    },
  )
}

/**
 * Bytes for keys and values when a held model is loaded into what is free now: as configured, or what is left of it.
 * Throws OUT_OF_MEMORY with the figures when the weights and one short session do not fit.
 */
export function kvBudgetFor(
  holding: Pick<Holding, 'spec' | 'recipe' | 'spans' | 'endsPath'>,
  options: { readonly name: string; readonly wantedKvBytes: number; readonly freeBytes: number },
): number {
  const { spec, recipe } = holding
  const [span = null] = holding.spans
  const weightsBytes = loadedBytes(spec, recipe, span, holding.endsPath !== null)
  const leastTokens = Math.min(leastContext, spec.maxContext) + 1
  const leastKvBytes = (span === null ? 0 : spanLength(span)) * kvBytesPerPosition(spec) * leastTokens
  const { freeBytes, wantedKvBytes, name } = options
  const budget = kvBudget({ freeBytes, weightsBytes, wantedKvBytes, leastKvBytes })
  if (budget !== undefined) return budget
  throw new LlmNodeError(
    'OUT_OF_MEMORY',
    `${name} needs ${mb(weightsBytes + leastKvBytes)} of memory; ${mb(freeBytes)} are free now, of which a fifth is left alone.`,
    {
      hint: 'Close other programs, or hold fewer layers: llm-node plan says what fits.',
      meta: { needBytes: weightsBytes + leastKvBytes, freeBytes },
    },
  )
}

/** "1,234 MB": whole megabytes. */
export function mb(bytes: number): string {
  return `${Math.ceil(bytes / 1e6).toLocaleString('en-US')} MB`
}
