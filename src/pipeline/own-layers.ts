import { isLlmNodeError, LlmNodeError } from '../base/errors.ts'
import { formatSpan, parseSpan, type Span } from '../base/span.ts'

/**
 * Runs `plan`. Layers in the middle that only this node holds are missing on its own circuits (a chain is at home at its
 * two ends only), and then "held by nobody" would be wrong: COVERAGE_GAP says it as it is.
 */
export function namingOwnLayers<T>(held: Span | undefined, modelName: string, plan: () => T): T {
  try {
    return plan()
  } catch (error) {
    if (held === undefined || !isLlmNodeError(error, 'COVERAGE_GAP')) throw error
    const { layers } = error.meta
    const gaps = (Array.isArray(layers) ? layers : []).map((text) => parseSpan(String(text)))
    const own = gaps.filter((gap) => gap.start >= held.start && gap.end <= held.end)
    if (own.length === 0 || own.length < gaps.length) throw error
    const names = own.map(formatSpan).join(', ')
    throw new LlmNodeError(
      'COVERAGE_GAP',
      `Layers ${names} of ${modelName} are held by this node alone, and it cannot be in the middle of its own circuit.`,
      {
        hint: 'Ask from another node, or hold the first or the last layers here: llm-node setup --layers 0-…',
        meta: error.meta,
        cause: error,
      },
    )
  }
}
