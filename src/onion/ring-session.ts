import { assertInput, LlmNodeError } from '../base/errors.ts'
import { type Cadence, createCadence } from './cadence.ts'
import type { EntryCircuit } from './circuit.ts'
import { allFinite, bytesOf, frameWireBytes, KIND, rowsOf, type SegmentOpener, type SegmentSealer } from './data.ts'
import { badFrame } from './frames.ts'
import type { HopContext } from './hop-context.ts'
import type { HopTarget, Ring, RingChange, RingResult } from './ring.ts'
import { aborted, hopError } from './ring-errors.ts'
import type { KeptHops } from './ring-plan.ts'
import { createPace, createRingWatch, type RingWatch } from './ring-watch.ts'

/** Frames of at most this many rows count as decode steps (one token, or a few speculated ones). */
const DECODE_ROWS = 8

export interface RingParts {
  readonly hops: readonly HopTarget[]
  readonly circuit: EntryCircuit
  /** To the first compute hop, with the front relays' layers. */
  readonly sealer: SegmentSealer
  /** From the last compute hop, with the back relays' layers. */
  readonly opener: SegmentOpener
  readonly hiddenSize: number
  readonly maxContext: number
  readonly maxRows: number
  readonly lifeS: number
  /** Smallest grant on the ring. */
  readonly windowBytes: number
  /** Most relay layers that a frame carries anywhere on its way. */
  readonly relayLayers: number
  /** Round trips measured while building, by hop; the last one is the entry's own end. */
  readonly rttMs: readonly number[]
  /** The number of the first frame. */
  readonly firstStep: number
  /** Of frames that a broken ring has left in the queues of hops. */
  readonly staleBytes: number
  readonly cadenceMs: number | undefined
  /** Closes the entry's own end. */
  closeReturn(): void
  /** Builds the ring's successor on the hops that are kept. Absent: a break ends the circuit. */
  mend?(change: RingChange, kept: KeptHops, signal: AbortSignal): Promise<Ring>
}

/** The built ring, with the ends that the return stream and the circuit report to. */
export interface RingSession extends Ring {
  onReturn(frame: Uint8Array): void
  onReturnEnd(): void
  /** The ring is no longer one; `true`: what is left of the circuit may be mended. */
  onBroken(error: LlmNodeError): boolean
  onCircuitEnd(error: LlmNodeError): void
  /** Resolves when nothing is left of the circuit, or another ring has it. */
  readonly gone: Promise<void>
}

interface Job {
  readonly pos: number
  readonly hidden: Float32Array
  readonly want: number
  readonly wireBytes: number
  readonly isDecode: boolean
  step: number
  sentMs: number
  resolve(result: RingResult): void
  reject(error: LlmNodeError): void
}

export function createRingSession(context: HopContext, parts: RingParts): RingSession {
  return new ClosedRing(context, parts)
}

class ClosedRing implements RingSession {
  readonly hops: readonly HopTarget[]
  readonly maxContext: number
  readonly maxRows: number
  readonly lifeS: number
  readonly ended: Promise<LlmNodeError | undefined>
  readonly gone: Promise<void>
  readonly #context: HopContext
  readonly #parts: RingParts
  readonly #watch: RingWatch
  readonly #decodePace: ReturnType<typeof createPace>
  readonly #prefillPace: ReturnType<typeof createPace>
  readonly #rttMs: number[]
  #waiting: Job[] = []
  #inFlight: Job[] = []
  #inFlightBytes: number
  #staleBytes: number
  /** Padding that has not come back. */
  #paddingUnderWay = 0
  readonly #cadence: Cadence | undefined
  #answeredMs = 0
  #nextStep: number
  #over: LlmNodeError | undefined
  #closing = false
  #handedOn = false
  #resolveEnded: (error: LlmNodeError | undefined) => void = () => {}
  #resolveGone: () => void = () => {}
  #cancelReturnWait: () => void = () => {}
  #cancelMendWait: () => void = () => {}

  constructor(context: HopContext, parts: RingParts) {
    this.#context = context
    this.#parts = parts
    this.hops = parts.hops
    this.maxContext = parts.maxContext
    this.maxRows = parts.maxRows
    this.lifeS = parts.lifeS
    this.#rttMs = [...parts.rttMs]
    this.#nextStep = parts.firstStep
    this.#staleBytes = parts.staleBytes
    this.#inFlightBytes = parts.staleBytes
    const { cadenceMs: beatMs } = parts
    if (beatMs !== undefined) {
      const beats = Math.ceil(context.limits.cadenceTailMs / beatMs)
      this.#cadence = createCadence({ timers: context.timers, beatMs, beats }, () => this.#onBeat())
    }
    this.#decodePace = createPace(context.limits)
    this.#prefillPace = createPace(context.limits)
    this.ended = new Promise((resolve) => {
      this.#resolveEnded = resolve
    })
    this.gone = new Promise((resolve) => {
      this.#resolveGone = resolve
    })
    this.#watch = createRingWatch(context, {
      oldest: () => this.#oldest(),
      ping: () => this.#pingAll(),
      broken: (hop) => {
        if (hop === undefined) this.#breakWith(noResult(this.hops.length))
        else this.#break(hop)
      },
    })
  }

  get hopRttMs(): readonly (number | null)[] {
    return this.hops.map((_, hop) => this.#rttMs[hop] ?? null)
  }

  async forward(frame: { pos: number; hidden: Float32Array; want: number }): Promise<RingResult> {
    const { pos, hidden, want } = frame
    const { hiddenSize, relayLayers } = this.#parts
    const nRows = hidden.length / hiddenSize
    assertInput(Number.isInteger(nRows) && nRows >= 1 && nRows <= this.maxRows, 'The rows do not fit this ring.', {
      values: hidden.length,
      maxRows: this.maxRows,
    })
    assertInput(Number.isInteger(want) && want >= 0 && want <= nRows, 'More rows are wanted than sent.', {
      want,
      nRows,
    })
    assertInput(Number.isInteger(pos) && pos >= 0, 'The position is not a number of tokens.', { pos })
    if (pos + nRows > this.maxContext) {
      throw new LlmNodeError('CONTEXT_TOO_LONG', `This circuit holds ${this.maxContext} tokens.`, {
        hint: 'Start anew with a shorter text or a larger context.',
        meta: { pos, nRows },
      })
    }
    if (this.#over !== undefined) throw this.#over
    const wireBytes = frameWireBytes(hidden.byteLength, relayLayers)
    const base = { pos, hidden, want, wireBytes, isDecode: nRows <= DECODE_ROWS, step: 0, sentMs: 0 }
    return new Promise((resolve, reject) => {
      this.#waiting.push({ ...base, resolve, reject })
      this.#pump()
    })
  }

  mend(change: RingChange, { signal }: { signal: AbortSignal }): Promise<Ring> {
    const { mend, circuit, windowBytes, hiddenSize, maxRows, sealer } = this.#parts
    if (mend === undefined || this.#over === undefined || this.#handedOn) {
      return Promise.reject(new LlmNodeError('BAD_INPUT', 'This ring cannot be mended.'))
    }
    if (circuit.ended !== undefined) return Promise.reject(circuit.ended)
    // What was under way fills the queues of the kept hops until it is done; the next frames have what is left.
    const staleBytes = this.#inFlightBytes
    const roomBytes = windowBytes - staleBytes - this.#context.limits.frameSpareBytes
    const room = Math.min(maxRows, Math.floor(roomBytes / (4 * hiddenSize)))
    if (room < 1) {
      const error = new LlmNodeError('LIMIT', 'Too much was under way when the ring broke.', {
        hint: 'Build another one.',
      })
      circuit.end(error)
      return Promise.reject(error)
    }
    this.#handedOn = true
    this.#cancelMendWait()
    this.#resolveGone()
    return mend(change, { count: change.keep, fromStep: this.#nextStep, maxRows: room, staleBytes, sealer }, signal)
  }

  close(): Promise<void> {
    if (this.#handedOn) return Promise.resolve()
    this.#closing = true
    this.#parts.circuit.end(aborted())
    return Promise.resolve()
  }

  onReturn(frame: Uint8Array): void {
    if (this.#over !== undefined) return
    try {
      const whole = this.#parts.opener.push(frame)
      if (whole === undefined) return
      if (whole.header.kind !== KIND.result) {
        this.#paddingUnderWay = Math.max(0, this.#paddingUnderWay - 1)
        return
      }
      const job = this.#inFlight[0]
      const { step, pos, want } = whole.header
      const rows = rowsOf(whole)
      if (job?.step !== step || job.pos !== pos || job.want !== want || !allFinite(rows)) throw badFrame('result')
      this.#inFlight.shift()
      this.#answered(job)
      job.resolve({ hidden: rows })
      this.#pump()
    } catch {
      this.#break(this.hops.length)
    }
  }

  onReturnEnd(): void {
    if (this.#over !== undefined) return
    // A TRUNCATED is on its way, if a hop has gone: it tells which one.
    const { timers, limits } = this.#context
    this.#cancelReturnWait = timers.after(limits.truncatedWaitMs, () => this.#break(this.hops.length, 'CIRCUIT_BROKEN'))
  }

  onBroken(error: LlmNodeError): boolean {
    if (this.#parts.mend === undefined) return false
    if (this.#over !== undefined) return true
    const { timers, limits } = this.#context
    this.#cancelMendWait = timers.after(limits.mendMs, () => this.#parts.circuit.end(error))
    this.#fail(error)
    return true
  }

  onCircuitEnd(error: LlmNodeError): void {
    if (this.#over === undefined) this.#fail(error)
    this.#cancelMendWait()
    this.#parts.sealer.wipe()
    this.#parts.closeReturn()
    this.#resolveGone()
  }

  #fail(error: LlmNodeError): void {
    this.#over = error
    this.#watch.stop()
    this.#cadence?.stop()
    this.#cancelReturnWait()
    this.#parts.opener.wipe()
    const jobs = [...this.#inFlight, ...this.#waiting]
    this.#inFlight = []
    this.#waiting = []
    for (const job of jobs) job.reject(error)
    this.#resolveEnded(this.#closing ? undefined : error)
  }

  /** Sends as much as the smallest grant on the ring allows: more would be dropped there, with the circuit. */
  #pump(): void {
    for (let job = this.#waiting[0]; job !== undefined && this.#over === undefined; job = this.#waiting[0]) {
      const steady = this.#cadence !== undefined && job.hidden.length === this.#parts.hiddenSize
      if (steady) this.#cadence?.keepUp()
      if (steady || !this.#fits(job)) return
      this.#sendFirst(job)
    }
  }

  #fits({ wireBytes }: Job): boolean {
    return this.#inFlightBytes + wireBytes <= this.#parts.windowBytes
  }

  #sendFirst(job: Job): void {
    const { sealer, circuit, hiddenSize } = this.#parts
    this.#waiting.shift()
    job.step = this.#nextStep++
    job.sentMs = this.#context.clock.monotonicMs()
    this.#inFlight.push(job)
    this.#inFlightBytes += job.wireBytes
    const { pos, want, hidden, step } = job
    const nTokens = hidden.length / hiddenSize
    const header = { kind: KIND.forward, step, pos, nTokens, want, hiddenSize, totalBytes: hidden.byteLength }
    sealer.seal(header, bytesOf(hidden), (frame) => circuit.sendData(frame))
    this.#watch.kick()
  }

  /** One frame of one row, or one that looks like it. */
  #onBeat(): void {
    const { sealer, circuit, hiddenSize } = this.#parts
    const [job] = this.#waiting
    if (this.#over !== undefined) return
    if (job !== undefined && this.#fits(job)) {
      this.#sendFirst(job)
      this.#pump()
      return
    }
    // A ring that has stopped gets no more to hold.
    if (this.#paddingUnderWay >= this.#context.limits.paddingUnderWay) return
    this.#paddingUnderWay++
    const blank = { pos: 0, nTokens: 0, want: 0, hiddenSize: 0 }
    const body = new Uint8Array(4 * hiddenSize)
    const header = { kind: KIND.padding, step: this.#nextStep, ...blank, totalBytes: body.length }
    sealer.seal(header, body, (frame) => circuit.sendData(frame))
  }

  #answered(job: Job): void {
    const nowMs = this.#context.clock.monotonicMs()
    const sinceMs = Math.max(job.sentMs, this.#answeredMs)
    this.#pace(job).add(nowMs - sinceMs)
    this.#answeredMs = nowMs
    this.#inFlightBytes -= job.wireBytes + this.#staleBytes
    this.#staleBytes = 0
  }

  #pace(job: Job): ReturnType<typeof createPace> {
    return job.isDecode ? this.#decodePace : this.#prefillPace
  }

  #oldest() {
    const job = this.#inFlight[0]
    if (job === undefined) return undefined
    const { limits } = this.#context
    const pace = this.#pace(job)
    return {
      // Frames behind others have their time from when it is their turn.
      sinceMs: Math.max(job.sentMs, this.#answeredMs),
      deadlineMs: job.isDecode ? pace.deadlineMs() : Math.max(limits.prefillMs, pace.deadlineMs()),
      silenceMs: pace.silenceMs(),
    }
  }

  async #pingAll(): Promise<number | undefined> {
    const { limits } = this.#context
    const answers = this.#rttMs.map(async (rttMs, hop) => {
      const timeoutMs = Math.max(limits.pingMs, 4 * rttMs)
      this.#rttMs[hop] = await this.#parts.circuit.ping(hop, { timeoutMs })
    })
    const results = await Promise.allSettled(answers)
    const failed = results.findIndex((result) => result.status === 'rejected')
    return failed < 0 ? undefined : failed
  }

  #break(hop: number, code: 'HOP_TIMEOUT' | 'CIRCUIT_BROKEN' = 'HOP_TIMEOUT'): void {
    this.#breakWith(hopError(this.hops, hop, code))
  }

  #breakWith(error: LlmNodeError): void {
    if (!this.onBroken(error)) this.#parts.circuit.end(error)
  }
}

/** Every hop answers, so nobody can be named: one of them computes too slowly, or not at all. */
function noResult(nHops: number): LlmNodeError {
  return new LlmNodeError('HOP_TIMEOUT', 'All hops of the ring answer, but no result came in time.', {
    hint: 'Ask again; another way is taken where there is one.',
    meta: { nHops },
  })
}
