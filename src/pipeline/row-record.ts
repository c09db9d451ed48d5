import { pipelineLimits } from '../base/limits.ts'
import type { OpenedChain } from './entry.ts'

/** One row that came back: what stood at its position, and who computed it. */
export interface RecordedRow {
  readonly pos: number
  readonly id: number
  /** [hiddenSize] */
  readonly row: Float32Array
  readonly by: OpenedChain
}

/** The rows of one answer, for an audit. */
export interface RowRecord {
  /** Rows for ids [ids.length − n, ids.length). */
  note(ids: readonly number[], rows: Float32Array, by: OpenedChain): void
  /** Those that belong to `ids`, in order: rows of tokens that were guessed wrong do not. */
  rowsOf(ids: readonly number[]): readonly RecordedRow[]
}

/** Keeps the first `auditBytes` of rows. */
export function createRowRecord(hiddenSize: number): RowRecord {
  const kept = new Map<number, RecordedRow>()
  const most = Math.floor(pipelineLimits.auditBytes / (4 * hiddenSize))
  return {
    note(ids, rows, by) {
      const n = rows.length / hiddenSize
      for (let index = 0; index < n; index++) {
        const pos = ids.length - n + index
        const id = ids[pos]
        if (id === undefined || (!kept.has(pos) && kept.size >= most)) continue
        kept.set(pos, { pos, id, row: rows.slice(index * hiddenSize, (index + 1) * hiddenSize), by })
      }
    },
    rowsOf: (ids) => [...kept.values()].filter(({ pos, id }) => ids[pos] === id).sort((a, b) => a.pos - b.pos),
  }
}
