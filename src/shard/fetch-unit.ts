import { join } from 'node:path'
import { downloadLimits } from '../base/limits.ts'
import type { Limiter } from './limiter.ts'
import { openPartial, type PartialFile, partialName } from './partial.ts'
import type { ModelSource } from './source.ts'
import type { ModelSurvey } from './survey.ts'
import { type ByteRange, type Piece, planPieces, type Unit } from './units.ts'

export interface FetchContext {
  readonly folder: string
  readonly source: ModelSource
  readonly survey: ModelSurvey
  /** Shared by all units: GETs under way. */
  readonly gets: Limiter
  readonly signal: AbortSignal
  readonly chunkBytes: number
  /** Wanted bytes that have been made safe on the disk. */
  onBytes(bytes: number): void
}

/** Brings the source bytes of a unit into its partial file and returns that file's path, complete. */
export async function fetchUnit(unit: Unit, context: FetchContext): Promise<string> {
  const { survey, folder } = context
  const versions = [...new Set(unit.tensors.map(({ file }) => file))].map((file) => [file, survey.versions.get(file)])
  const state = JSON.stringify([survey.modelId, versions])
  const partial = await openPartial(join(folder, partialName(unit.fileName)), unit, state)
  try {
    context.onBytes(partial.done.reduce((sum, { begin, end }) => sum + end - begin, 0))
    const pieces = planPieces(unit, partial.done, downloadLimits)
    // All settle before the file is closed: a piece still writing would hit a closed file.
    const results = await Promise.allSettled(
      pieces.map((piece) =>
        context.gets(async () => {
          if (!context.signal.aborted) await fetchPiece(piece, partial, context)
        }),
      ),
    )
    const failed = results.find((result) => result.status === 'rejected')
    if (failed) throw failed.reason
  } finally {
    await partial.close()
  }
  context.signal.throwIfAborted()
  return partial.path
}

async function fetchPiece(piece: Piece, partial: PartialFile, context: FetchContext): Promise<void> {
  const { source, survey, signal, chunkBytes } = context
  const { file, begin, end } = piece
  const known = survey.versions.get(file)
  const { chunks } = await source.openRange({ file, begin, end, signal, ...(known ? { known } : {}) })
  let at = begin
  let committed = begin
  const commit = async () => {
    const ranges = piece.parts.flatMap((part) => overlap(part, { begin: committed, end: at }))
    committed = at
    await partial.commit(ranges)
    context.onBytes(ranges.reduce((sum, range) => sum + range.end - range.begin, 0))
  }
  try {
    for await (const chunk of chunks) {
      for (const part of piece.parts) {
        for (const to of overlap(part, { begin: at, end: at + chunk.length })) {
          const from = to.begin - part.at + part.begin - at
          await partial.write(to.begin, chunk.subarray(from, from + to.end - to.begin))
        }
      }
      at += chunk.length
      if (at - committed >= chunkBytes) await commit()
    }
  } finally {
    // What has arrived before a failure stays.
    if (at > committed) await commit()
  }
}

/** The bytes of the source range that belong to the part, as a range of the partial file: none or one. */
function overlap(part: Piece['parts'][number], range: ByteRange): ByteRange[] {
  const begin = Math.max(part.begin, range.begin)
  const end = Math.min(part.end, range.end)
  return begin < end ? [{ begin: begin - part.begin + part.at, end: end - part.begin + part.at }] : []
}
