import { isLlmNodeError, LlmNodeError } from '../base/errors.ts'
import type { CryptoBackend } from './crypto.ts'
import {
  allFinite,
  bytesOf,
  createSegmentOpener,
  createSegmentSealer,
  type DataFrame,
  KIND,
  rowsOf,
  type SegmentOpener,
  type SegmentSealer,
} from './data.ts'
import { type FailCode, isFailCode, type PipeSetBody, type SegmentKeys } from './ops.ts'
import type { ComputeSession } from './ports.ts'
import type { QueueMeter } from './send-queue.ts'

/** The data plane of one compute hop: opens frames, computes, seals the rows for the next segment. */
export interface Pipe {
  /** Throws on any violation: the circuit has to end then. */
  push(frame: Uint8Array): void
  /** Frames that are not answered yet, or not whole yet. */
  readonly busy: boolean
  /** From now on nothing leaves, not even what is being computed. */
  mute(): void
  /** What leaves from frame `fromStep` on goes over another segment; takes its keys over. */
  turnOut(segOut: SegmentKeys, fromStep: number): void
  wipe(): void
}

export interface PipeDeps {
  readonly session: ComputeSession
  readonly crypto: CryptoBackend
  readonly meter: QueueMeter
  readonly queueBytes: number
  /** To the successor; frames are dropped there while it is gone. */
  send(frame: Uint8Array): void
  /** The frame cannot be computed: the entry is told the code. */
  fail(code: FailCode): void
  /** Ends the circuit without a word: the fault is this hop's own. */
  broken(reason: string): void
}

interface Pending {
  readonly frame: DataFrame
  /** Rows that came out; undefined while computing, null for frames that are passed on as they are. */
  rows: Float32Array | null | undefined
}

const KINDS = new Set([KIND.forward, KIND.cancel, KIND.padding])

/** Takes the keys in `setup` over; the session stays the caller's. */
export function createPipe(setup: PipeSetBody, deps: PipeDeps): Pipe {
  return new ComputePipe(setup, deps)
}

class ComputePipe implements Pipe {
  readonly #setup: PipeSetBody
  readonly #deps: PipeDeps
  readonly #opener: SegmentOpener
  #sealer: SegmentSealer
  /** Answers to frames before it are dropped. */
  #fromStep = 0
  readonly #pending: Pending[] = []
  #pendingBytes = 0
  #nextPos: number
  #wiped = false

  constructor(setup: PipeSetBody, deps: PipeDeps) {
    const { hiddenSize, maxRows } = setup
    this.#setup = setup
    this.#deps = deps
    this.#nextPos = deps.session.length
    const grant = { kinds: KINDS, hiddenSize, maxRows, maxBytes: deps.queueBytes }
    this.#opener = createSegmentOpener(setup.segIn, [], grant, deps.crypto)
    this.#sealer = createSegmentSealer(setup.segOut, [], deps.crypto)
  }

  get busy(): boolean {
    return this.#pending.length > 0 || this.#opener.pendingBytes > 0
  }

  push(frame: Uint8Array): void {
    const whole = this.#opener.push(frame)
    if (whole !== undefined) this.#accept(whole)
    else this.#checkGrant(this.#opener.pendingBytes)
  }

  mute(): void {
    this.#fromStep = Number.POSITIVE_INFINITY
  }

  turnOut(segOut: SegmentKeys, fromStep: number): void {
    this.#sealer.wipe()
    this.#sealer = createSegmentSealer(segOut, [], this.#deps.crypto)
    this.#fromStep = fromStep
  }

  wipe(): void {
    this.#wiped = true
    this.#opener.wipe()
    this.#sealer.wipe()
    this.#deps.meter.remove(this.#pendingBytes)
    this.#pending.length = 0
    this.#pendingBytes = 0
  }

  #checkGrant(moreBytes: number): void {
    if (this.#pendingBytes + moreBytes <= this.#deps.queueBytes) return
    throw new LlmNodeError('LIMIT', 'More bytes are under way than were granted.')
  }

  #accept(frame: DataFrame): void {
    const { session, meter, fail } = this.#deps
    const entry: Pending = { frame, rows: undefined }
    this.#checkGrant(frame.body.length)
    this.#pending.push(entry)
    this.#pendingBytes += frame.body.length
    meter.add(frame.body.length)
    if (this.#wiped) return
    if (frame.header.kind !== KIND.forward) {
      entry.rows = null
      this.#flush()
      return
    }
    const { pos, nTokens } = frame.header
    const rows = rowsOf(frame)
    if (pos > this.#nextPos || !allFinite(rows)) fail('BAD_INPUT')
    else if (pos + nTokens > session.maxContext) fail('CONTEXT_TOO_LONG')
    else {
      this.#nextPos = pos + nTokens
      this.#compute(entry, rows)
    }
  }

  #compute(entry: Pending, rows: Float32Array): void {
    const { session, fail, broken } = this.#deps
    session
      .forward(entry.frame.header.pos, rows)
      .then(
        (out) => {
          if (this.#wiped) return
          if (out.length !== rows.length || !allFinite(out)) {
            broken('the computed rows are not usable')
            return
          }
          entry.rows = out
          this.#flush()
        },
        (error: unknown) => {
          if (this.#wiped) return
          if (isLlmNodeError(error) && isFailCode(error.code)) fail(error.code)
          else broken('computing failed')
        },
      )
      .catch(() => broken('the rows could not be passed on'))
  }

  /** Answers leave in the order in which the frames came, whatever the session does. */
  #flush(): void {
    let head = this.#pending[0]
    while (head !== undefined && head.rows !== undefined) {
      this.#pending.shift()
      this.#pendingBytes -= head.frame.body.length
      this.#deps.meter.remove(head.frame.body.length)
      if (head.frame.header.step >= this.#fromStep) {
        sealAnswer(this.#sealer, this.#setup, head.frame, head.rows, this.#deps.send)
      }
      head = this.#wiped ? undefined : this.#pending[0]
    }
  }
}

/** Onward to the next compute hop, or from the tail to the entry: then only the wanted last rows. */
function sealAnswer(
  sealer: SegmentSealer,
  setup: PipeSetBody,
  frame: DataFrame,
  rows: Float32Array | null,
  send: (frame: Uint8Array) => void,
): void {
  const { header } = frame
  if (rows === null) {
    sealer.seal(header, frame.body, send)
  } else if (setup.tail) {
    const wanted = bytesOf(rows.subarray((header.nTokens - header.want) * header.hiddenSize))
    sealer.seal({ ...header, kind: KIND.result, nTokens: header.want, totalBytes: wanted.length }, wanted, send)
  } else {
    sealer.seal(header, bytesOf(rows), send)
  }
}
