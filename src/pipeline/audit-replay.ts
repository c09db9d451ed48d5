import { isLlmNodeError } from '../base/errors.ts'
import { pipelineLimits } from '../base/limits.ts'
import type { Span } from '../base/span.ts'
import type { RouteHop } from '../coverage/route.ts'
import type { ModelEnds } from '../shard/ends.ts'
import type { AuditBook } from './audit-book.ts'
import type { Chain } from './chain.ts'
import {
  type ChainPlan,
  type ChainRequest,
  type EntryDeps,
  type EntryModel,
  type OpenedChain,
  openPlan,
  planChain,
  stopsOf,
} from './entry.ts'
import { AVOIDED_MS, blameOf } from './exclusions.ts'
import { lateToOpenMs } from './open-first.ts'
import type { RecordedRow } from './row-record.ts'
import { sendRows } from './send-rows.ts'

export interface AuditModel extends EntryModel {
  readonly ends: Pick<ModelEnds, 'embed'>
}

export interface AuditedAnswer {
  /** Prompt and answer. */
  readonly ids: readonly number[]
  readonly rows: readonly RecordedRow[]
  readonly request: { readonly profile: ChainPlan['profile']; readonly longRope: boolean }
}

export interface AuditDeps extends EntryDeps {
  readonly audits: AuditBook
  /** Hears who is sent the text for an audit. */
  readonly onSent: (plan: ChainPlan) => void
}

export interface RouteStop {
  readonly address: string
  readonly span: Span
}

export function routeOf({ route }: Pick<ChainPlan, 'route'>): readonly RouteStop[] {
  return route?.hops.map(({ holder, span }) => ({ address: holder.address, span })) ?? []
}

type AuditWish = Pick<ChainRequest, 'maxContext' | 'profile' | 'numericsClass' | 'excluded' | 'longRope'>

/** A chain over others, in the same class or else in any; undefined when there are none. Throws what building it throws. */
export async function openOver(
  model: AuditModel,
  wish: AuditWish,
  deps: EntryDeps,
  signal: AbortSignal,
): Promise<OpenedChain | undefined> {
  // What this node computes itself is not audited: it computes it the same way both times.
  const request = { ...wish, solo: false, penaltyMs: deps.exclusions?.penaltyMs }
  for (const numericsClass of wish.numericsClass === undefined ? [undefined] : [wish.numericsClass, undefined]) {
    let plan: ChainPlan
    try {
      plan = planChain(model, { ...request, numericsClass }, deps)
    } catch {
      continue
    }
    // Somebody waits for the end of the answer: those who have failed just now are not asked.
    if ((plan.route?.penaltyMs ?? 0) >= AVOIDED_MS) continue
    const limited = AbortSignal.any([signal, AbortSignal.timeout(pipelineLimits.auditPatience * lateToOpenMs(plan))])
    try {
      return await openPlan(model, plan, deps, { signal: limited })
    } catch (error) {
      const blame = isLlmNodeError(error) && !signal.aborted ? blameOf(error, stopsOf(plan)) : undefined
      if (blame !== undefined) deps.exclusions?.add(blame)
      throw error
    }
  }
  return undefined
}

/** The same route with one hop in another's hands. Throws what building it throws. */
export function openSwapped(
  model: AuditModel,
  plan: ChainPlan,
  swap: { readonly index: number; readonly by: RouteHop['holder']; readonly maxContext: number },
  deps: EntryDeps,
  signal: AbortSignal,
): Promise<OpenedChain> {
  const { route } = plan
  if (route === undefined) return Promise.reject(new Error('There is no route.'))
  const hops = route.hops.map((hop, index) => (index === swap.index ? { ...hop, holder: swap.by } : hop))
  return openPlan(model, { ...plan, maxContext: swap.maxContext, route: { ...route, hops } }, deps, { signal })
}

/** Rows for positions [from, to], by position, as one prefill. */
export async function replayRows(
  chain: Pick<Chain, 'forward' | 'maxRows'>,
  { ends, spec }: AuditModel,
  { ids, from, to, signal }: { ids: readonly number[]; from: number; to: number; signal: AbortSignal },
): Promise<ReadonlyMap<number, Float32Array>> {
  const rows = await sendRows(chain, ends, { ids: ids.slice(0, to + 1), pos: 0, want: to + 1 - from, signal })
  return byPosition(rows, from, spec.hiddenSize)
}

/** The row at one position, reached as an answer reaches it: the last few tokens one by one. */
export async function replayAsAnswer(
  chain: Pick<Chain, 'forward' | 'maxRows'>,
  { ends }: AuditModel,
  { ids, pos, first, signal }: { ids: readonly number[]; pos: number; first: number; signal: AbortSignal },
): Promise<Float32Array> {
  const begin = Math.max(first, pos - pipelineLimits.auditSteps)
  let row = await sendRows(chain, ends, { ids: ids.slice(0, begin + 1), pos: 0, want: 1, signal })
  for (let at = begin + 1; at <= pos; at++) {
    row = await sendRows(chain, ends, { ids: ids.slice(0, at + 1), pos: at, want: 1, signal })
  }
  return row
}

function byPosition(rows: Float32Array, from: number, width: number): ReadonlyMap<number, Float32Array> {
  const found = new Map<number, Float32Array>()
  for (let at = 0; at * width < rows.length; at++) found.set(from + at, rows.subarray(at * width, (at + 1) * width))
  return found
}
