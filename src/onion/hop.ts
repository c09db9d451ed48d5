import { isLlmNodeError } from '../base/errors.ts'
import type { Secret } from '../base/secret.ts'
import type { CircuitPhase } from './circuit-table.ts'
import { openControlLayer, sealControlLayer } from './control.ts'
import { badFrame, COMMAND, decodeControl, encodeControl } from './frames.ts'
import type { HopRole } from './handshake-messages.ts'
import { type Admission, answerCreate } from './hop-admission.ts'
import { createAnswerData } from './hop-answer.ts'
import type { HopContext } from './hop-context.ts'
import { createComputeData, createRelayData, type HopData, type HopDataDeps } from './hop-data.ts'
import { extendCircuit } from './hop-extend.ts'
import { checkPlainBody, decodeExtend, encodeExtendFail, encodeOk, OP, type Op } from './ops.ts'
import type { FrameLink } from './ports.ts'
import { createOpener, createSealer, type Opener, type Sealer } from './ratchet.ts'
import { createTokenBucket, type TokenBucket } from './rate-limit.ts'
import { createSendQueue, type QueueMeter, type SendQueue } from './send-queue.ts'

/** Everything that a CREATE which was answered with OK gave this hop. */
interface Established extends NonNullable<Admission['accepted']> {
  readonly forward: Opener
  readonly backward: Sealer
  readonly data: HopData
}

interface QueuedLink {
  readonly link: FrameLink
  readonly queue: SendQueue
}

/**
 * One circuit on one hop (protocol.md §2–§6): answers CREATE, extends, passes on, computes. It holds its two links and
 * nothing that names any other hop. Every violation ends it; nothing is paused.
 */
export function acceptCircuit(context: HopContext, link: FrameLink): void {
  new HopCircuit(context, link).start()
}

class HopCircuit {
  readonly peer: string
  readonly trusted: boolean
  phase: CircuitPhase = 'new'
  readonly #context: HopContext
  readonly #predecessor: QueuedLink
  readonly #meter: QueueMeter
  #established: Established | undefined
  #successor: QueuedLink | undefined
  #hadSuccessor = false
  #extending: AbortController | undefined
  #earlyFrames = 0
  readonly #pings: TokenBucket
  #bytes = 0
  #lastFrameMs: number
  #ended = false
  /** Half-open, and held after the successor ended: never both. */
  #cancelPhaseTimer: () => void = () => {}
  #cancelLifeTimer: () => void = () => {}
  #cancelIdleTimer: () => void = () => {}

  constructor(context: HopContext, link: FrameLink) {
    this.#context = context
    this.peer = link.remotePeer
    this.trusted = context.isTrusted(link.remotePeer, link.remoteIsLocal)
    this.#meter = context.table.meter(this)
    this.#pings = createTokenBucket(context.limits.pings, context.clock)
    this.#predecessor = { link, queue: this.#createQueue(link, false) }
    this.#lastFrameMs = context.clock.monotonicMs()
  }

  get quietMs(): number {
    return this.#context.clock.monotonicMs() - this.#lastFrameMs
  }

  start(): void {
    const { table, limits, timers } = this.#context
    const { link } = this.#predecessor
    // Streams without a CREATE are as cheap as half-open circuits, but must not keep those out.
    if (table.count('new') >= 4 * limits.halfOpen) {
      link.abort('too many streams')
      this.#foul()
      return
    }
    table.add(this)
    this.#cancelPhaseTimer = timers.after(limits.halfOpenMs, () => {
      this.#foul()
      this.destroy('not set up in time')
    })
    link.onEnd(() => this.#predecessorEnded())
    link.onFrame((frame) => this.#guard(() => this.#fromPredecessor(frame)))
  }

  destroy(reason: string): void {
    this.#end(reason, false)
  }

  /** Any exception in handling a frame is a violation, or a fault of ours: both end the circuit, and only this one. */
  #guard(handle: () => void, bySuccessor = false): void {
    if (this.#ended) return
    try {
      handle()
    } catch (error) {
      if (!isLlmNodeError(error)) this.#context.logger.error({ err: error }, 'a circuit failed')
      // A successor was the entry's choice: what it does is no fault of the predecessor.
      else if (!bySuccessor) this.#foul()
      this.destroy(isLlmNodeError(error) ? `${error.code}: ${error.message}` : 'unexpected error')
    }
  }

  /** Whoever is known is forgiven: circuits of others pass through it. */
  #foul(): void {
    if (!this.#ended && !this.trusted) this.#context.fouls.note(this.peer)
  }

  #fromPredecessor(frame: Uint8Array): void {
    this.#count(frame)
    const cmd = frame[0]
    if (cmd === COMMAND.create) {
      this.#onCreate(decodeControl(frame))
      return
    }
    if (this.#established === undefined) throw badFrame('cmd')
    if (cmd === COMMAND.data) this.#established.data.push(frame)
    else if (cmd === COMMAND.control || cmd === COMMAND.controlEarly) this.#onControl(cmd, decodeControl(frame))
    else if (cmd === COMMAND.destroy) this.#predecessorEnded()
    else if (cmd !== COMMAND.padding) throw badFrame('cmd')
  }

  #count(frame: Uint8Array): void {
    this.#bytes += frame.length
    if (this.#bytes > this.#context.limits.lifeBytes) throw badFrame('life')
    this.#lastFrameMs = this.#context.clock.monotonicMs()
  }

  #onCreate(body: Uint8Array): void {
    if (this.#established !== undefined) throw badFrame('cmd')
    const { context, link } = { context: this.#context, link: this.#predecessor.link }
    const { created, accepted } = answerCreate(context, link, body)
    this.#predecessor.queue.push(encodeControl(COMMAND.created, created))
    if (accepted === undefined) {
      this.#ended = true
      this.#free(false)
      link.close()
      return
    }
    const { keys, grant, message, ringEnd } = accepted
    const data = createData(message.role, keys.exporter, {
      context,
      predecessor: this.peer,
      meter: this.#meter,
      message,
      grant,
      reply: (op, inner) => this.#reply(op, inner),
      send: (frame) => this.#sendOn(frame),
      destroy: (reason) => this.destroy(reason),
    })
    this.#established = {
      ...accepted,
      data,
      forward: createOpener(keys.forward, 'f', context.crypto),
      backward: createSealer(keys.backward, 'b', context.crypto),
    }
    this.phase = 'half-open'
    this.#cancelLifeTimer = context.timers.after(grant.lifeS * 1_000, () => this.destroy('its life is over'))
    ringEnd?.attach(this)
  }

  #onControl(cmd: number, body: Uint8Array): void {
    const established = this.#established
    if (established === undefined) throw badFrame('cmd')
    const { op, inner } = openControlLayer(established.forward, 'f', cmd, body)
    if (this.phase === 'half-open') this.#opened(established)
    if (cmd === COMMAND.controlEarly && ++this.#earlyFrames > this.#context.limits.earlyFrames) throw badFrame('EARLY')
    if (op === OP.forward) this.#passForward(cmd, inner)
    else if (op === OP.drop) return
    else if (this.#extending !== undefined) throw badFrame('op')
    else this.#onOp(established, cmd, op, inner)
  }

  #opened({ message, grant, ringEnd }: Established): void {
    this.#cancelPhaseTimer()
    this.phase = ringEnd !== undefined ? 'ring' : message.role
    this.#watchIdle(grant.idleS * 1_000)
  }

  /** One timer that looks when it fires, instead of one per frame. */
  #watchIdle(idleMs: number): void {
    const { clock, timers } = this.#context
    const leftMs = this.#lastFrameMs + idleMs - clock.monotonicMs()
    if (leftMs <= 0) this.destroy('idle')
    else this.#cancelIdleTimer = timers.after(leftMs, () => this.#watchIdle(idleMs))
  }

  #passForward(cmd: number, inner: Uint8Array): void {
    if (this.#successor !== undefined) this.#successor.queue.pushUrgent(encodeControl(cmd, inner))
    // The entry may not know yet that the successor has gone; without one ever there, it is a violation.
    else if (!this.#hadSuccessor) throw badFrame('op')
  }

  #onOp(established: Established, cmd: number, op: Op, inner: Uint8Array): void {
    if (op === OP.pipeSet || op === OP.relaySet || op === OP.outSet || op === OP.answerSet) {
      established.data.setUp(op, inner)
      return
    }
    if (op === OP.extend) {
      if (cmd !== COMMAND.controlEarly || established.ringEnd !== undefined) throw badFrame('op')
      this.#onExtend(established, inner)
      return
    }
    checkPlainBody(op, inner)
    if (op === OP.ping) {
      if (!this.#pings.take(1)) throw badFrame('rate')
      this.#reply(OP.pong, inner)
    } else if (op === OP.truncate) this.#onTruncate(established)
    else throw badFrame('op')
  }

  #reply(op: Op, inner: Uint8Array): void {
    if (this.#established === undefined || this.#ended) return
    const { crypto } = this.#context
    const sealed = sealControlLayer(this.#established.backward, 'b', COMMAND.control, { op, inner }, crypto)
    this.#predecessor.queue.push(encodeControl(COMMAND.control, sealed))
  }

  /** Data that this hop lets through: to the entry when the ring ends here, otherwise to the successor. */
  #sendOn(frame: Uint8Array): void {
    const ringEnd = this.#established?.ringEnd
    if (ringEnd !== undefined) ringEnd.onData(frame)
    else if (this.#successor !== undefined) this.#successor.queue.push(frame)
    else if (!this.#hadSuccessor) throw badFrame('cmd')
  }

  #onExtend(established: Established, inner: Uint8Array): void {
    if (this.#successor !== undefined) throw badFrame('op')
    const body = decodeExtend(inner)
    const extending = new AbortController()
    this.#extending = extending
    const handlers = {
      onCreated: (link: FrameLink, created: Uint8Array) => {
        this.#extending = undefined
        this.#hadSuccessor = true
        this.#cancelPhaseTimer()
        this.#successor = { link, queue: this.#createQueue(link, established.message.role === 'relay') }
        this.#reply(OP.extended, created)
      },
      onFrame: (frame: Uint8Array) => this.#guard(() => this.#fromSuccessor(frame), true),
      onEnd: () => this.#guard(() => this.#successorEnded(), true),
    }
    const { remoteIsLocal } = this.#predecessor.link
    const options = { predecessorIsLocal: remoteIsLocal, signal: extending.signal, handlers }
    extendCircuit(this.#context, body, options).catch(() => {
      if (this.#ended) return
      this.#extending = undefined
      this.#reply(OP.extendFail, encodeExtendFail())
    })
  }

  #fromSuccessor(frame: Uint8Array): void {
    if (this.#successor === undefined) return
    this.#count(frame)
    const cmd = frame[0]
    if (cmd === COMMAND.control) this.#reply(OP.forward, decodeControl(frame))
    else if (cmd === COMMAND.destroy) this.#successorEnded()
    else if (cmd !== COMMAND.padding) throw badFrame('cmd')
  }

  #onTruncate({ data }: Established): void {
    this.#dropSuccessor()
    data.allowReset()
    this.#hold()
    this.#reply(OP.ok, encodeOk(OP.truncate))
  }

  #successorEnded(): void {
    if (this.#successor === undefined) return
    this.#dropSuccessor()
    this.#hold()
    this.#reply(OP.truncated, new Uint8Array(0))
  }

  #dropSuccessor(): void {
    const successor = this.#successor
    this.#successor = undefined
    if (successor !== undefined) closeLink(successor)
  }

  /** Keeps state and KV for a while: the entry may extend anew. */
  #hold(): void {
    const { timers, limits } = this.#context
    this.#cancelPhaseTimer()
    this.#cancelPhaseTimer = timers.after(limits.holdMs, () => this.destroy('not continued in time'))
  }

  #predecessorEnded(): void {
    if (this.phase === 'new' || this.phase === 'half-open') this.#foul()
    this.#end('closed by the predecessor', this.#established?.data.isSetUp ?? false)
  }

  #end(reason: string, clean: boolean): void {
    if (this.#ended) return
    this.#ended = true
    this.#context.logger.debug({ reason, phase: this.phase }, 'circuit ended')
    this.#extending?.abort()
    this.#dropSuccessor()
    closeLink(this.#predecessor)
    this.#free(clean)
  }

  /** Gives back everything that the circuit holds. */
  #free(clean: boolean): void {
    this.#cancelPhaseTimer()
    this.#cancelLifeTimer()
    this.#cancelIdleTimer()
    this.#predecessor.queue.clear()
    this.#established?.data.wipe()
    this.#established?.forward.wipe()
    this.#established?.backward.wipe()
    this.#context.table.remove(this, clean && this.phase !== 'ring')
    this.#established?.ringEnd?.onEnd()
  }

  #createQueue(link: FrameLink, paced: boolean): SendQueue {
    const { limits, timers, clock, relayTurns } = this.#context
    const rate = { perS: limits.relayBytesPerS, burst: limits.relayBurstBytes }
    return createSendQueue(link, {
      // The entry fills the grant with data; control frames come on top.
      maxBytes: limits.queueBytes + limits.frameSpareBytes,
      meter: this.#meter,
      timers,
      overflow: () => {
        if (!paced) this.#foul()
        this.destroy('more bytes are waiting than were granted')
      },
      ...(paced ? { paced: { rate: createTokenBucket(rate, clock), turns: relayTurns, peer: this.peer } } : {}),
    })
  }
}

/** The exporter is kept only where a caller may prove by it who it is. */
function createData(role: HopRole, exporter: Secret, deps: HopDataDeps): HopData {
  if (role === 'answer') return createAnswerData(exporter, deps)
  exporter.wipe()
  return (role === 'compute' ? createComputeData : createRelayData)(deps)
}

/** What waits is dropped; what was sent, a last answer above all, is still delivered. */
function closeLink({ link, queue }: QueuedLink): void {
  const waited = queue.queuedBytes > 0
  queue.clear()
  if (waited) {
    link.abort('circuit ended')
    return
  }
  try {
    link.send(encodeControl(COMMAND.destroy, new Uint8Array(0)))
  } catch {
    // It has ended already.
  }
  link.close()
}
