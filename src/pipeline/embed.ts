import { LlmNodeError } from '../base/errors.ts'
import { pipelineLimits } from '../base/limits.ts'
import type { AskedProfile } from '../coverage/path.ts'
import type { AskableModel } from './ask.ts'
import type { ChainHop } from './chain.ts'
import { type EntryDeps, openChain } from './entry.ts'
import { type AskPrompt, encodePrompt } from './prompt.ts'

export interface EmbedOptions {
  readonly prompt: AskPrompt
  /** Run all layers in this process. */
  readonly solo: boolean
  /** Let the swarm compute all layers. */
  readonly swarm?: boolean | undefined
  readonly profile?: AskedProfile | undefined
  readonly signal: AbortSignal
}

export interface Embedding {
  /** [hiddenSize], of length 1. */
  readonly vector: Float32Array
  readonly promptTokens: number
  readonly exact: boolean
  readonly hops: readonly ChainHop[]
}

/**
 * The mean over all tokens of what comes out of the last layer, after the final norm, scaled to length 1. A model that
 * was not trained for embeddings gives a rough measure of likeness, no more. Throws BAD_INPUT, CONTEXT_TOO_LONG and
 * what the chain throws.
 */
export async function embedText(model: AskableModel, options: EmbedOptions, deps: EntryDeps): Promise<Embedding> {
  const { signal, solo, swarm = false, profile } = options
  const ids = encodePrompt(model.text, options.prompt)
  if (ids.length === 0) throw new LlmNodeError('BAD_INPUT', 'There is nothing to embed.')
  const { chain, exact } = await openChain(model, { maxContext: ids.length, solo, swarm, profile, signal }, deps)
  try {
    const { hiddenSize } = model.spec
    const sums = new Float64Array(hiddenSize)
    const chunkRows = Math.min(chain.maxRows, pipelineLimits.prefillRows)
    for (let pos = 0; pos < ids.length; pos += chunkRows) {
      signal.throwIfAborted()
      const chunk = ids.slice(pos, pos + chunkRows)
      const hidden = await model.ends.embed(chunk)
      const rows = model.ends.finalNorm(await chain.forward({ pos, hidden, want: chunk.length }))
      for (let i = 0; i < rows.length; i++) sums[i % hiddenSize] = (sums[i % hiddenSize] ?? 0) + (rows[i] as number)
    }
    return { vector: toUnitLength(sums), promptTokens: ids.length, exact, hops: chain.hops }
  } finally {
    await chain.close()
  }
}

function toUnitLength(sums: Float64Array): Float32Array {
  const length = Math.sqrt(sums.reduce((squares, sum) => squares + sum * sum, 0))
  return Float32Array.from(sums, (sum) => (length === 0 ? 0 : sum / length))
}
