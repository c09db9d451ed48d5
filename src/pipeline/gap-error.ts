import { LlmNodeError } from '../base/errors.ts'
import { formatSpan } from '../base/span.ts'
import type { ChainPlan } from './entry.ts'
import { AVOIDED_MS, type Exclusions } from './exclusions.ts'

/** What stands in the way of an answer that lost a hop. */
export interface Obstacle {
  /** The way that is left, over what has failed. */
  readonly plan: ChainPlan | undefined
  /** Why there is none. */
  readonly gap: LlmNodeError | undefined
  /** Of this interruption, in order. */
  readonly failures: readonly LlmNodeError[]
  readonly modelName: string
}

/** COVERAGE_GAP naming the layers that only failed peers hold, as far as it is known; or the gap's own error. */
export function gapError(
  { plan, gap, failures, modelName }: Obstacle,
  { penaltyMs }: Pick<Exclusions, 'penaltyMs'>,
): LlmNodeError {
  const cause = failures.at(-1)
  if (plan?.route === undefined) {
    const { code = 'COVERAGE_GAP', message = 'A layer is missing.', hint = '', meta = {} } = gap ?? {}
    const layers = code === 'COVERAGE_GAP' && Array.isArray(meta.layers) ? meta.layers.map(String) : []
    // Who held them has failed, and is known to be gone by now: that is no other news.
    const failed = layers.filter((layer) => failures.some((failure) => spanOf(failure) === layer))
    if (failed.length > 0 && failed.length === layers.length) return nobodyAnswers(layers, modelName, cause)
    return new LlmNodeError(code, message, { hint, meta, cause })
  }
  const { hops } = plan.route
  const avoided = hops.filter(({ holder }, index) => {
    const from = hops[index - 1]?.holder.address ?? null
    const isLast = index === hops.length - 1
    return penaltyMs(from, holder.address) >= AVOIDED_MS || (isLast && penaltyMs(holder.address, null) >= AVOIDED_MS)
  })
  // A hop that failed with two partners may be innocent; the failures themselves say which layers did not answer.
  const blamed = avoided.filter(({ span }) => failures.some(({ meta }) => meta.start === span.start))
  const lost = blamed.length > 0 ? blamed : avoided
  return nobodyAnswers(
    lost.map(({ span }) => formatSpan(span)),
    modelName,
    cause,
  )
}

/** The layers of the hop that failed, as text. */
function spanOf({ meta: { start, end } }: LlmNodeError): string | undefined {
  return typeof start === 'number' && typeof end === 'number' ? formatSpan({ start, end }) : undefined
}

function nobodyAnswers(layers: readonly string[], modelName: string, cause: LlmNodeError | undefined): LlmNodeError {
  const one = layers.length === 1 && layers[0]?.includes('-') === false
  return new LlmNodeError(
    'COVERAGE_GAP',
    `Layer${one ? ' ' : 's '}${layers.join(', ')} of ${modelName} ${one ? 'is' : 'are'} held by nobody who answers.`,
    {
      hint: `Try again later, or hold ${one ? 'it' : 'them'} yourself: llm-node setup --layers ${layers[0]}`,
      meta: { layers },
      cause,
    },
  )
}
