import { createHash } from 'node:crypto'
import { equalBytes, toHex } from '../base/bytes.ts'
import { pipelineLimits } from '../base/limits.ts'
import type { Span } from '../base/span.ts'
import type { Evidence } from './audit-book.ts'
import { type Accusation, localise } from './audit-localise.ts'
import { type AuditDeps, type AuditedAnswer, type AuditModel, openOver, replayRows, routeOf } from './audit-replay.ts'
import type { ChainPlan } from './entry.ts'
import type { RecordedRow } from './row-record.ts'

/** What there is to say of an audit. */
export interface AuditResult {
  /** `skipped`: it was drawn, and nobody else could compute the same. */
  readonly state: 'passed' | 'failed' | 'skipped'
  /** Rows compared. */
  readonly rows: number
  /** `false`: over another numerics class, within a tolerance: a small lie may pass. */
  readonly exact: boolean
  /** Addresses of those who lied, as far as it could be told. */
  readonly liars: readonly string[]
  readonly note: string
}

/**
 * Has others compute the whole transcript again, as one prefill over hops that had no part in it, and compares every row
 * that came (engine.md §6: equal numerics give equal bytes, whatever the shape). Never throws but ABORTED.
 */
export async function auditAnswer(
  model: AuditModel,
  answer: AuditedAnswer,
  deps: AuditDeps,
  signal: AbortSignal,
): Promise<AuditResult> {
  const limited = AbortSignal.any([signal, AbortSignal.timeout(pipelineLimits.auditMs)])
  let failure = ''
  for (let attempt = 0; attempt < pipelineLimits.auditAttempts && !limited.aborted; attempt++) {
    try {
      return await compareWithOthers(model, answer, deps, limited)
    } catch (error) {
      signal.throwIfAborted()
      failure = error instanceof Error ? error.message : String(error)
    }
  }
  return skipped(failure)
}

function skipped(note: string): AuditResult {
  return { state: 'skipped', rows: 0, exact: true, liars: [], note }
}

async function compareWithOthers(
  model: AuditModel,
  { ids, rows, request }: AuditedAnswer,
  deps: AuditDeps,
  signal: AbortSignal,
): Promise<AuditResult> {
  const [first] = rows
  const last = rows.at(-1)
  const plan = first?.by.plan
  if (first === undefined || last === undefined || plan?.route === undefined)
    return skipped('Nothing was sent to others.')
  const involved = new Set(rows.flatMap(({ by }) => routeOf(by.plan).map(({ address }) => address)))
  const wish = { ...request, numericsClass: plan.numericsClass, excluded: involved, maxContext: last.pos + 1 }
  const other = await openOver(model, wish, deps, signal)
  if (other === undefined) return skipped('Nobody else holds these layers.')
  const exact = other.plan.numericsClass !== undefined && other.plan.numericsClass === plan.numericsClass
  let expected: ReadonlyMap<number, Float32Array>
  try {
    deps.onSent(other.plan)
    expected = await replayRows(other.chain, model, { ids, from: first.pos, to: last.pos, signal })
  } finally {
    await other.chain.close()
  }
  const tell = { rows: rows.length, exact }
  const differs = rows.find(({ pos, row }) => !isSame(row, expected.get(pos), exact))
  if (differs === undefined) {
    if (exact) deps.audits.passed([...involved, ...routeOf(other.plan).map(({ address }) => address)])
    const note = exact ? 'Computed again elsewhere: equal, byte by byte.' : 'Computed again in another class: close.'
    return { state: 'passed', ...tell, liars: [], note }
  }
  const wanted = expected.get(differs.pos) ?? new Float32Array(0)
  const found = exact
    ? await localise(model, { ids, differs, expected: wanted, audit: other.plan, request }, deps, signal)
    : undefined
  note(model, { differs, expected: wanted, found, audit: other.plan }, deps)
  const liars = found?.liar === undefined ? [] : [found.liar]
  const who = liars.length > 0 ? 'it is known who lied' : 'it could not be told who lied'
  return { state: 'failed', ...tell, liars, note: `What came is not what the model says; ${who}.` }
}

/** Byte by byte; in another class as near as honest computing is (measured: bench/audit-tolerance). */
export function isSame(came: Float32Array, expected: Float32Array | undefined, exact: boolean): boolean {
  if (expected === undefined || came.length !== expected.length) return false
  if (exact) return equalBytes(bytesOf(came), bytesOf(expected))
  return distance(came, expected) <= pipelineLimits.auditTolerance
}

/** Length of the difference by the length of the row expected. */
export function distance(came: Float32Array, expected: Float32Array): number {
  let difference = 0
  let length = 0
  for (const [index, value] of expected.entries()) {
    difference += ((came[index] ?? 0) - value) ** 2
    length += value ** 2
  }
  return Math.sqrt(difference / Math.max(length, Number.MIN_VALUE))
}

function bytesOf(row: Float32Array): Uint8Array {
  return new Uint8Array(row.buffer, row.byteOffset, row.byteLength)
}

function note(
  model: AuditModel,
  at: { differs: RecordedRow; expected: Float32Array; found: Accusation | undefined; audit: ChainPlan },
  { audits }: AuditDeps,
): void {
  const { differs, expected, found, audit } = at
  const sha256 = (row: Float32Array) => createHash('sha256').update(bytesOf(row)).digest('hex')
  const all = [...routeOf(differs.by.plan), ...routeOf(audit)].map(({ address }) => address)
  const span: Span | null = found?.span ?? null
  const evidence: Evidence = {
    atMs: Date.now(),
    modelId: toHex(model.modelId),
    recipe: model.recipe,
    numericsClass: differs.by.plan.numericsClass ?? '',
    liar: found?.liar ?? null,
    suspects: found?.suspects ?? all,
    span,
    position: differs.pos,
    came: sha256(differs.row),
    expected: sha256(expected),
    confirmedBy: found?.confirmedBy ?? [],
  }
  audits.failed(evidence)
}
