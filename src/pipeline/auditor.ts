import { type AuditResult, auditAnswer } from './audit.ts'
import type { AuditBook } from './audit-book.ts'
import { type AuditModel, routeOf } from './audit-replay.ts'
import type { ChainPlan, EntryDeps, OpenedChain } from './entry.ts'
import { createRowRecord, type RowRecord } from './row-record.ts'

/** Decides at the beginning of an answer whether it is audited at its end, and writes its rows down until then. */
export interface Auditor {
  draw(opened: OpenedChain): void
  onRows(ids: readonly number[], rows: Float32Array, by: OpenedChain): void
  /** Null when none was drawn. Throws only ABORTED. */
  run(
    ids: readonly number[],
    last: OpenedChain,
    options: { onSent: (plan: ChainPlan) => void; signal: AbortSignal },
  ): Promise<AuditResult | null>
}

export function createAuditor(model: AuditModel, deps: EntryDeps & { readonly audits?: AuditBook }): Auditor {
  const { audits } = deps
  let record: RowRecord | undefined
  return {
    draw({ plan }) {
      const addresses = routeOf(plan).map(({ address }) => address)
      if (audits?.draw(addresses) === true) record = createRowRecord(model.spec.hiddenSize)
    },
    onRows: (ids, rows, by) => record?.note(ids, rows, by),
    async run(ids, { plan }, { onSent, signal }) {
      if (record === undefined || audits === undefined) return null
      const { profile, longRope } = plan
      const answer = { ids, rows: record.rowsOf(ids), request: { profile, longRope } }
      return auditAnswer(model, answer, { ...deps, audits, onSent }, signal)
    },
  }
}
