import { z } from 'zod'
import type { Clock } from '../base/clock.ts'
import type { Config } from '../base/config.ts'
import { writeFileAtomic } from '../base/files.ts'
import type { Logger } from '../base/logger.ts'
import type { PeerScores } from '../coverage/peer-scores.ts'
import { type AuditBook, type AuditState, createAuditBook } from '../pipeline/audit-book.ts'
import { readIfPresent } from './home.ts'

const evidence = z.object({
  atMs: z.number(),
  modelId: z.string(),
  recipe: z.string(),
  numericsClass: z.string(),
  liar: z.string().nullable(),
  suspects: z.array(z.string()),
  span: z.object({ start: z.int(), end: z.int() }).nullable(),
  position: z.int(),
  came: z.string(),
  expected: z.string(),
  confirmedBy: z.array(z.string()),
})
const stored = z.object({ passed: z.array(z.tuple([z.string(), z.int()])), evidence: z.array(evidence) })

/** The book of a home: it knows after a restart who lied. One that cannot be read begins anew, with a warning. */
export async function openAuditBook(
  file: string,
  { probability, newPeers }: Config['audit'],
  { clock, logger, scores }: { clock: Clock; logger: Logger; scores?: PeerScores },
): Promise<AuditBook> {
  let state: AuditState | undefined
  try {
    const text = await readIfPresent(file)
    state = text === undefined ? undefined : stored.parse(JSON.parse(text))
  } catch (err) {
    logger.warn({ err }, 'what audits have found cannot be read; it begins anew')
  }
  let known = state?.evidence.length ?? 0
  let writing: Promise<void> = Promise.resolve()
  const onChange = (next: AuditState) => {
    const found = next.evidence.at(-1)
    if (next.evidence.length !== known && found !== undefined) logger.warn({ found }, 'an audit has failed')
    known = next.evidence.length
    const text = `${JSON.stringify(next)}\n`
    writing = writing
      .then(() => writeFileAtomic(file, text, 0o600))
      .catch((err: unknown) => logger.warn({ err }, 'what an audit has found cannot be written'))
  }
  return createAuditBook({ probability, newPeers, state, onChange, clock, scores })
}
