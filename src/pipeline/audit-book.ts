import type { Clock } from '../base/clock.ts'
import { pipelineLimits } from '../base/limits.ts'
import type { Span } from '../base/span.ts'
import type { PeerScores } from '../coverage/peer-scores.ts'

/** What an audit that failed has found. Nothing of the text is in it. */
export interface Evidence {
  /** Unix ms. */
  readonly atMs: number
  readonly modelId: string
  readonly recipe: string
  readonly numericsClass: string
  /** `.llm` address; null: it could not be told who of `suspects` it was. */
  readonly liar: string | null
  readonly suspects: readonly string[]
  readonly span: Span | null
  readonly position: number
  /** SHA-256 of the row that came, and of the one that others computed. */
  readonly came: string
  readonly expected: string
  /** Holders who computed what was expected. */
  readonly confirmedBy: readonly string[]
}

export interface AuditState {
  /** How many audits each peer has passed. */
  readonly passed: readonly (readonly [address: string, times: number])[]
  readonly evidence: readonly Evidence[]
}

/** Who was audited, and what was found: of all answers of a node, and after a restart. */
export interface AuditBook {
  /** Whether an answer over these peers is to be audited. */
  draw(addresses: readonly string[]): boolean
  passed(addresses: readonly string[]): void
  failed(evidence: Evidence): void
  /** A lie was proven: nothing is computed there any more. */
  isLiar(address: string): boolean
  readonly evidence: readonly Evidence[]
}

export interface AuditBookOptions {
  /** Of an answer over known peers; 0: no audits at all. */
  readonly probability: number
  /** The same when one of them is new. */
  readonly newPeers: number
  readonly state?: AuditState | undefined
  readonly onChange?: ((state: AuditState) => void) | undefined
  /** In [0, 1). */
  readonly random?: () => number
  readonly clock: Clock
  /** Hears who passed and who lied. */
  readonly scores?: Pick<PeerScores, 'worked' | 'broke'> | undefined
}

export function createAuditBook({
  probability,
  newPeers,
  state,
  onChange,
  clock,
  scores,
  ...options
}: AuditBookOptions): AuditBook {
  const passed = new Map(state?.passed)
  const evidence = [...(state?.evidence ?? [])]
  const random = options.random ?? Math.random
  const tell = () => onChange?.({ passed: [...passed], evidence })
  return {
    evidence,
    draw(addresses) {
      if (probability === 0 || addresses.length === 0) return false
      const isNew = addresses.some((address) => (passed.get(address) ?? 0) < pipelineLimits.auditsOfNew)
      return random() < (isNew ? Math.max(newPeers, probability) : probability)
    },
    passed(addresses) {
      for (const address of addresses) {
        scores?.worked(address)
        const times = (passed.get(address) ?? 0) + 1
        passed.delete(address)
        passed.set(address, times)
      }
      for (const oldest of passed.keys()) {
        if (passed.size <= pipelineLimits.auditedPeers) break
        passed.delete(oldest)
      }
      tell()
    },
    failed(found) {
      evidence.push(found)
      if (evidence.length > pipelineLimits.auditEvidence) evidence.shift()
      if (found.liar !== null) {
        passed.delete(found.liar)
        scores?.broke(found.liar)
      }
      tell()
    },
    isLiar: (address) =>
      evidence.some(({ liar, atMs }) => liar === address && clock.nowMs() - atMs < pipelineLimits.liarMs),
  }
}
