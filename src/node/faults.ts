import { readFileSync, writeFileSync } from 'node:fs'
import { z } from 'zod'
import { LlmNodeError } from '../base/errors.ts'
import { pipelineLimits } from '../base/limits.ts'
import type { CircuitTransport, ComputeService, ComputeSession, FrameLink } from '../onion/ports.ts'

/**
 * Faults on purpose, for tests of real processes: a node dies, stands still, computes nonsense or garbles what it sends, at
 * message `nth` of a kind. Only where the hidden flag --test-faults names a file; nothing of this exists otherwise. Nodes
 * may share a file: the first that reaches the moment claims it by making `FILE.struck`, and the others go on unharmed.
 */
const faultSchema = z.strictObject({
  /** offer: a CREATE; open: KV reserved; prefill, decode, draft: a run of many rows, of one, of a few; frame: one sent. */
  kind: z.enum(['offer', 'open', 'prefill', 'decode', 'draft', 'frame']),
  /** 1: the first since the file was written. */
  nth: z.int().min(1),
  /**
   * die: SIGKILL; stop: SIGSTOP; leave: exit as after a crash; stall: no answer; slow: `ms` late from then on; refuse: an
   * error; infinite: a value that is not finite; wrong: a finite lie, from then on; corrupt: one flipped bit on the wire.
   */
  does: z.enum(['die', 'stop', 'leave', 'stall', 'slow', 'refuse', 'infinite', 'wrong', 'corrupt']),
  ms: z.int().min(1).default(1_000),
})

export type Fault = z.infer<typeof faultSchema>
type Kind = Fault['kind']

export interface FaultyParts {
  readonly compute: ComputeService
  readonly transport: CircuitTransport
}

/** The parts with faults as `file` says at each message; a file that is empty or not there: none. */
export function injectFaults(file: string, parts: FaultyParts): FaultyParts {
  let text = ''
  let fault: Fault | undefined
  let seen = 0
  let claimed = false
  const arm = () => {
    const now = readText(file)
    if (now === text) return
    text = now
    seen = 0
    claimed = false
    fault = now.trim() === '' ? undefined : faultSchema.parse(JSON.parse(now))
  }
  /** The fault when this is its moment; those that last are due at every message from then on. */
  const due = (kind: Kind): Fault | undefined => {
    arm()
    if (fault?.kind !== kind) return undefined
    seen++
    const lasts = fault.does === 'slow' || fault.does === 'wrong'
    if (seen === fault.nth) claimed = claim(`${file}.struck`)
    return claimed && (seen === fault.nth || (lasts && seen > fault.nth)) ? fault : undefined
  }
  const strike = (kind: Kind): Fault | undefined => {
    const found = due(kind)
    if (found?.does === 'die') process.kill(process.pid, 'SIGKILL')
    if (found?.does === 'stop') process.kill(process.pid, 'SIGSTOP')
    if (found?.does === 'leave') process.exit(1)
    return found
  }
  return {
    compute: {
      offer(request) {
        return strike('offer')?.does === 'refuse' ? 'busy' : parts.compute.offer(request)
      },
      open(request) {
        if (strike('open')?.does === 'refuse') throw new LlmNodeError('KV_FULL', 'Refused on purpose.')
        return faultySession(parts.compute.open(request), strike)
      },
    },
    transport: faultyTransport(parts.transport, () => strike('frame')?.does === 'corrupt'),
  }
}

function faultySession(session: ComputeSession, strike: (kind: Kind) => Fault | undefined): ComputeSession {
  return {
    get hiddenSize() {
      return session.hiddenSize
    },
    get maxContext() {
      return session.maxContext
    },
    get length() {
      return session.length
    },
    async forward(pos, hidden) {
      const found = strike(kindOf(hidden.length / session.hiddenSize))
      if (found?.does === 'stall') await new Promise(() => {})
      if (found?.does === 'slow') await new Promise((resolve) => setTimeout(resolve, found.ms))
      if (found?.does === 'refuse') throw new LlmNodeError('ENGINE_FAILED', 'Failed on purpose.')
      const rows = await session.forward(pos, hidden)
      if (found?.does === 'infinite') rows[rows.length >> 1] = Number.NaN
      if (found?.does === 'wrong') rows[rows.length >> 1] = (rows[rows.length >> 1] ?? 0) + 0.25
      return rows
    },
    close: () => session.close(),
  }
}

function kindOf(rows: number): Kind {
  if (rows === 1) return 'decode'
  return rows <= pipelineLimits.decodeRows ? 'draft' : 'prefill'
}

function faultyTransport(transport: CircuitTransport, corrupts: () => boolean): CircuitTransport {
  const faulty = (link: FrameLink): FrameLink => {
    const send = link.send.bind(link)
    link.send = (frame) => {
      if (!corrupts()) return send(frame)
      const garbled = frame.slice()
      garbled[garbled.length - 1] = (garbled[garbled.length - 1] ?? 0) ^ 1
      return send(garbled)
    }
    return link
  }
  return {
    self: transport.self,
    isConnected: (peerId) => transport.isConnected(peerId),
    connect: (target, options) => transport.connect(target, options),
    open: async (target, options) => faulty(await transport.open(target, options)),
    refuse: (peerId, ms) => transport.refuse(peerId, ms),
    onLink: (handler) => transport.onLink((link) => handler(faulty(link))),
  }
}

/** False when somebody else was first. */
function claim(path: string): boolean {
  try {
    writeFileSync(path, JSON.stringify({ pid: process.pid, atMs: Date.now() }), { flag: 'wx' })
    return true
  } catch {
    return false
  }
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}
