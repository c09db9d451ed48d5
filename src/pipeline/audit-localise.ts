import { equalBytes } from '../base/bytes.ts'
import { type Span, spanContains } from '../base/span.ts'
import type { LayerHolder } from '../coverage/map.ts'
import {
  type AuditDeps,
  type AuditedAnswer,
  type AuditModel,
  openSwapped,
  replayAsAnswer,
  routeOf,
} from './audit-replay.ts'
import type { ChainPlan } from './entry.ts'
import type { RecordedRow } from './row-record.ts'

export interface Accusation {
  /** Undefined: it is one of `suspects`, and nobody else can tell which. */
  readonly liar: string | undefined
  readonly suspects: readonly string[]
  readonly span: Span | undefined
  /** Holders who computed what was expected where the liar did not. */
  readonly confirmedBy: readonly string[]
}

export interface Mismatch {
  readonly ids: readonly number[]
  readonly differs: RecordedRow
  /** What the audit's route computed there. */
  readonly expected: Float32Array
  readonly audit: ChainPlan
  readonly request: AuditedAnswer['request']
}

/**
 * Finds who of two routes that disagree has lied. One span at a time is given to a third holder: when that alone turns
 * one route's row into the other's, two independent holders stand against the one who was replaced. First in the route of
 * the answer, then in the audit's. Undefined when nobody can be named, for example where nobody third holds the span.
 */
export async function localise(
  model: AuditModel,
  mismatch: Mismatch,
  deps: AuditDeps,
  signal: AbortSignal,
): Promise<Accusation | undefined> {
  const { differs, expected, audit } = mismatch
  const involved = new Set([...routeOf(differs.by.plan), ...routeOf(audit)].map(({ address }) => address))
  const thirds = deps
    .holders(model.modelId, model.recipe)
    .filter(({ address, state }) => state === 'online' && !involved.has(address))
  const sides = [
    { plan: differs.by.plan, truth: expected, others: routeOf(audit) },
    { plan: audit, truth: differs.row, others: routeOf(differs.by.plan) },
  ]
  for (const { plan, truth, others } of sides) {
    const found: Accusation[] = []
    for (const [index, hop] of (plan.route?.hops ?? []).entries()) {
      const by = thirds.find((third) => canReplace(third, plan, hop.span, deps))
      if (by === undefined) continue
      const row = await rowWith(model, mismatch, { plan, index, by }, deps, signal)
      if (row === undefined || !equalBytes(bytesOf(row), bytesOf(truth))) continue
      found.push({
        liar: hop.holder.address,
        suspects: [hop.holder.address],
        span: hop.span,
        confirmedBy: [
          by.address,
          ...others.filter(({ span }) => overlaps(span, hop.span)).map(({ address }) => address),
        ],
      })
    }
    // When several replacements mend it, the lie has gone by itself, and accuses nobody.
    const [only] = found
    if (only !== undefined && found.length === 1) return only
  }
  return undefined
}

/** In the same class, and allowed to see the text as all others. */
function canReplace(third: LayerHolder, plan: ChainPlan, span: Span, { privacy }: AuditDeps): boolean {
  if (third.numericsClass !== plan.numericsClass || !spanContains(third.span, span)) return false
  return plan.profile !== 'trusted' || privacy?.trusted.has(third.address) === true
}

async function rowWith(
  model: AuditModel,
  { ids, differs }: Mismatch,
  { plan, index, by }: { plan: ChainPlan; index: number; by: LayerHolder },
  deps: AuditDeps,
  signal: AbortSignal,
): Promise<Float32Array | undefined> {
  const { pos } = differs
  try {
    const swapped = await openSwapped(model, plan, { index, by, maxContext: pos + 1 }, deps, signal)
    try {
      deps.onSent(swapped.plan)
      return await replayAsAnswer(swapped.chain, model, { ids, pos, first: 0, signal })
    } finally {
      await swapped.chain.close()
    }
  } catch {
    signal.throwIfAborted()
    return undefined
  }
}

function overlaps(a: Span, b: Span): boolean {
  return a.start < b.end && b.start < a.end
}

function bytesOf(row: Float32Array): Uint8Array {
  return new Uint8Array(row.buffer, row.byteOffset, row.byteLength)
}
