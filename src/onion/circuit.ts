import { isLlmNodeError, LlmNodeError } from '../base/errors.ts'
import type { Secret } from '../base/secret.ts'
import { type ControlMessage, unwrapControl, wrapControl } from './control.ts'
import { badFrame, COMMAND, decodeControl, encodeControl } from './frames.ts'
import { type CircuitKeys, createClientHandshake, type HandshakeTarget } from './handshake.ts'
import {
  type ClientMessage,
  decodeServerMessage,
  encodeClientMessage,
  type ServerMessage,
} from './handshake-messages.ts'
import type { HopContext } from './hop-context.ts'
import { checkPlainBody, decodeFail, decodeOk, encodeExtend, OP, type Op, PING_BYTES } from './ops.ts'
import type { FrameLink, PeerTarget } from './ports.ts'
import { createOpener, createSealer, type Opener, type Sealer } from './ratchet.ts'
import type { HopTarget } from './ring.ts'
import { aborted, hopError } from './ring-errors.ts'
import { createSendQueue, type SendQueue } from './send-queue.ts'

export interface RequestOptions {
  readonly timeoutMs: number
  readonly signal?: AbortSignal
}

/** The entry's view of its circuit: the handshakes, and one op at a time with each hop. */
export interface EntryCircuit {
  /** Opens the link to the first hop and does its handshake. */
  connect(target: PeerTarget & HandshakeTarget, message: ClientMessage, signal: AbortSignal): Promise<ServerMessage>
  /** Lets the last hop extend to `target`. `onCreate` sees X before anything is sent. */
  extend(
    target: PeerTarget & HandshakeTarget,
    message: ClientMessage,
    options: { signal: AbortSignal; onCreate?: (publicX: Uint8Array) => void },
  ): Promise<ServerMessage>
  /** Sends PIPE_SET, RELAY_SET or TRUNCATE and waits for OK. Throws PEER_REFUSED with the hop's status, HOP_TIMEOUT, …. */
  request(hop: number, op: Op, body: Uint8Array, options: RequestOptions): Promise<void>
  /** Milliseconds until the answer. Throws HOP_TIMEOUT. */
  ping(hop: number, options: RequestOptions): Promise<number>
  /**
   * Takes every hop behind the first `keep` off the circuit (TRUNCATE); `hops` are those of the circuit that it is to
   * become. Throws HOP_TIMEOUT, and LIMIT when it was extended so often that the others do not fit any more.
   */
  truncate(keep: number, hops: readonly HopTarget[], options: RequestOptions): Promise<void>
  sendData(frame: Uint8Array): void
  /** 32 bytes that only this node and the answering hop know, once; undefined when there is none. */
  takeExporter(): Secret | undefined
  /** Why the circuit has ended; undefined: it has not. */
  readonly ended: LlmNodeError | undefined
  /** Ends the circuit; every waiting request rejects with `error`. Idempotent. */
  end(error: LlmNodeError): void
}

interface PendingOp {
  readonly op: Op
  readonly body: Uint8Array
  readonly sentMs: number
  resolve(message: ControlMessage): void
  reject(error: LlmNodeError): void
}

interface HopKeys {
  readonly forward: Sealer
  readonly backward: Opener
}

export interface EntryCircuitHooks {
  /** A hop has lost its successor, or failed; `true`: what is left of the circuit is to stay. */
  onBroken(error: LlmNodeError): boolean
  /** Once, whatever ended the circuit. */
  onEnded(error: LlmNodeError): void
}

export function createEntryCircuit(
  context: HopContext,
  hops: readonly HopTarget[],
  hooks: EntryCircuitHooks,
): EntryCircuit {
  return new OutboundCircuit(context, hops, hooks)
}

class OutboundCircuit implements EntryCircuit {
  ended: LlmNodeError | undefined
  readonly #context: HopContext
  readonly #hooks: EntryCircuitHooks
  readonly #keys: HopKeys[] = []
  readonly #pending = new Map<number, PendingOp>()
  #hops: readonly HopTarget[]
  #exporter: Secret | undefined
  #earlyFrames = 0
  #link: FrameLink | undefined
  #queue: SendQueue | undefined
  #created: { resolve(created: Uint8Array): void; reject(error: LlmNodeError): void } | undefined

  constructor(context: HopContext, hops: readonly HopTarget[], hooks: EntryCircuitHooks) {
    this.#context = context
    this.#hops = hops
    this.#hooks = hooks
  }

  async connect(
    target: PeerTarget & HandshakeTarget,
    message: ClientMessage,
    signal: AbortSignal,
  ): Promise<ServerMessage> {
    const { limits } = this.#context
    const link = await this.#openLink(target, signal)
    if (this.ended !== undefined) {
      link.abort('not wanted')
      throw this.ended
    }
    this.#link = link
    this.#queue = createSendQueue(link, {
      // What is under way is bounded by the grants of the hops (ring-session.ts); this only keeps a dead link finite.
      maxBytes: 2 * limits.queueBytes,
      meter: { add() {}, remove() {} },
      timers: this.#context.timers,
      overflow: () => this.end(hopError(this.#hops, 0, 'CIRCUIT_BROKEN')),
    })
    link.onEnd(() => this.#linkEnded())
    const handshake = this.#handshake(target, message)
    const created = await this.#await<Uint8Array>(0, { timeoutMs: limits.createMs, signal }, (resolve, reject) => {
      this.#created = { resolve, reject }
      link.onFrame((frame) => this.#onFrame(frame))
      this.#queue?.push(encodeControl(COMMAND.create, handshake.create))
    })
    return this.#finish(0, handshake, created)
  }

  async extend(
    target: PeerTarget & HandshakeTarget,
    message: ClientMessage,
    options: { signal: AbortSignal; onCreate?: (publicX: Uint8Array) => void },
  ): Promise<ServerMessage> {
    const hop = this.#keys.length
    this.#earlyFrames++
    const handshake = this.#handshake(target, message)
    options.onCreate?.(handshake.publicKey)
    const body = encodeExtend({ target, create: handshake.create })
    const wait = { timeoutMs: this.#context.limits.extendMs, signal: options.signal }
    const answer = await this.#exchange(hop - 1, OP.extend, body, wait).catch((error: unknown) => {
      handshake.wipe()
      // The predecessor is there and says nothing: the link to the new hop is what took too long.
      if (isLlmNodeError(error, 'HOP_TIMEOUT')) throw hopError(this.#hops, hop, 'HOP_TIMEOUT')
      throw isLlmNodeError(error, 'ABORTED') ? aborted(this.#hops, hop) : error
    })
    if (answer.op !== OP.extended) {
      handshake.wipe()
      throw hopError(this.#hops, hop, 'PEER_UNREACHABLE')
    }
    return this.#finish(hop, handshake, answer.inner)
  }

  async request(hop: number, op: Op, body: Uint8Array, options: RequestOptions): Promise<void> {
    const answer = await this.#exchange(hop, op, body, options)
    if (answer.op === OP.ok) return
    throw hopError(this.#hops, hop, 'PEER_REFUSED', { status: decodeFail(answer.inner).code })
  }

  async ping(hop: number, options: RequestOptions): Promise<number> {
    const { clock, crypto } = this.#context
    const { inner, asked } = await this.#exchange(hop, OP.ping, crypto.random(PING_BYTES), options)
    if (Buffer.compare(inner, asked.body) !== 0) this.#violation()
    return clock.monotonicMs() - asked.sentMs
  }

  async truncate(keep: number, hops: readonly HopTarget[], options: RequestOptions): Promise<void> {
    // One EARLY for each new hop and one for this node's own end.
    if (this.#earlyFrames + hops.length - keep + 1 > this.#context.limits.earlyFrames) {
      throw new LlmNodeError('LIMIT', 'This circuit has been extended too often.', { hint: 'Build another one.' })
    }
    this.#hops = hops
    if (this.#pending.has(keep - 1)) await this.ping(keep - 1, options)
    await this.request(keep - 1, OP.truncate, new Uint8Array(0), options)
    // Until here something of them may still have come back.
    for (const { forward, backward } of this.#keys.splice(keep)) {
      forward.wipe()
      backward.wipe()
    }
    for (const [hop, pending] of [...this.#pending]) {
      if (hop < keep) continue
      this.#pending.delete(hop)
      pending.reject(hopError(this.#hops, keep, 'CIRCUIT_BROKEN'))
    }
  }

  sendData(frame: Uint8Array): void {
    this.#queue?.push(frame)
  }

  takeExporter(): Secret | undefined {
    const exporter = this.#exporter
    this.#exporter = undefined
    return exporter
  }

  end(error: LlmNodeError): void {
    if (this.ended !== undefined) return
    this.ended = error
    this.#exporter?.wipe()
    this.#created?.reject(error)
    for (const pending of [...this.#pending.values()]) pending.reject(error)
    for (const { forward, backward } of this.#keys) {
      forward.wipe()
      backward.wipe()
    }
    this.#queue?.clear()
    try {
      this.#link?.send(encodeControl(COMMAND.destroy, new Uint8Array(0)))
    } catch {
      // It has ended already.
    }
    this.#link?.close()
    this.#hooks.onEnded(error)
  }

  async #openLink(target: PeerTarget, signal: AbortSignal): Promise<FrameLink> {
    const { transport, timers, limits } = this.#context
    const timeout = new AbortController()
    const cancel = timers.after(limits.connectMs, () => timeout.abort())
    try {
      return await transport.open(target, { signal: AbortSignal.any([signal, timeout.signal]) })
    } catch (cause) {
      if (signal.aborted) throw aborted(this.#hops, 0)
      throw hopError(this.#hops, 0, 'PEER_UNREACHABLE', { cause })
    } finally {
      cancel()
    }
  }

  #handshake(target: HandshakeTarget, message: ClientMessage) {
    const { options, crypto } = this.#context
    const clientMessage = encodeClientMessage(message)
    return createClientHandshake({ target, network: options.network, clientMessage }, crypto)
  }

  #finish(hop: number, handshake: ReturnType<typeof createClientHandshake>, created: Uint8Array): ServerMessage {
    try {
      const { serverMessage, keys } = handshake.finish(created)
      if (this.#hops[hop]?.role === 'answer' && this.#exporter === undefined) this.#exporter = keys.exporter
      else keys.exporter.wipe()
      this.#keep(hop, keys)
      return decodeServerMessage(serverMessage)
    } catch (cause) {
      throw hopError(this.#hops, hop, 'AUTH_FAILED', { cause })
    }
  }

  /** A hop that refuses ends the link right behind its answer: nobody would wipe the keys any more. */
  #keep(hop: number, keys: CircuitKeys): void {
    if (this.ended === undefined) {
      const { crypto } = this.#context
      const [forward, backward] = [createSealer(keys.forward, 'f', crypto), createOpener(keys.backward, 'b', crypto)]
      this.#keys[hop] = { forward, backward }
      return
    }
    keys.forward.wipe()
    keys.backward.wipe()
  }

  /** A PING that was given up on is still outstanding at the hop: the next one waits for that answer, sending nothing. */
  #exchange(
    hop: number,
    op: Op,
    body: Uint8Array,
    options: RequestOptions,
  ): Promise<ControlMessage & { asked: PendingOp }> {
    return this.#await(hop, options, (resolve, reject) => {
      const late = this.#pending.get(hop)
      const again = late?.op === OP.ping && op === OP.ping
      if (late !== undefined && !again) throw new LlmNodeError('INTERNAL', 'A hop has one op outstanding at a time.')
      const { clock, crypto } = this.#context
      const asked: PendingOp = {
        op,
        body: late?.body ?? body,
        sentMs: late?.sentMs ?? clock.monotonicMs(),
        resolve: (message) => resolve({ ...message, asked }),
        reject,
      }
      this.#pending.set(hop, asked)
      if (again) return
      const cmd = op === OP.extend ? COMMAND.controlEarly : COMMAND.control
      const sealers = this.#keys.slice(0, hop + 1).map((keys) => keys.forward)
      this.#queue?.pushUrgent(wrapControl(sealers, cmd, { op, inner: body }, crypto))
    })
  }

  /** A promise that also ends with the circuit, after `timeoutMs`, and with the signal. */
  #await<T>(
    hop: number,
    options: RequestOptions,
    begin: (resolve: (value: T) => void, reject: (error: LlmNodeError) => void) => void,
  ): Promise<T> {
    const { signal, timeoutMs } = options
    if (this.ended !== undefined) return Promise.reject(this.ended)
    if (signal?.aborted === true) return Promise.reject(aborted())
    return new Promise((resolve, reject) => {
      const settle = () => {
        cancelTimer()
        signal?.removeEventListener('abort', onAbort)
      }
      const fail = (error: LlmNodeError) => {
        settle()
        reject(error)
      }
      const onAbort = () => fail(aborted(this.#hops, hop))
      const cancelTimer = this.#context.timers.after(timeoutMs, () => fail(hopError(this.#hops, hop, 'HOP_TIMEOUT')))
      signal?.addEventListener('abort', onAbort, { once: true })
      begin((value) => {
        settle()
        resolve(value)
      }, fail)
    })
  }

  #onFrame(frame: Uint8Array): void {
    if (this.ended !== undefined) return
    try {
      if (frame[0] === COMMAND.control) this.#onControl(decodeControl(frame))
      else if (frame[0] === COMMAND.created && this.#created !== undefined) {
        this.#created.resolve(decodeControl(frame))
        this.#created = undefined
      } else if (frame[0] === COMMAND.destroy) this.#linkEnded()
      else if (frame[0] !== COMMAND.padding) throw badFrame('cmd')
    } catch {
      this.#violation()
    }
  }

  #onControl(body: Uint8Array): void {
    const openers = this.#keys.map((keys) => keys.backward)
    const { hop, message } = unwrapControl(openers, COMMAND.control, body)
    const { op, inner } = message
    if (op === OP.drop) return
    if (op === OP.truncated) {
      this.#broken(hopError(this.#hops, hop + 1, 'CIRCUIT_BROKEN'))
      return
    }
    checkPlainBody(op, inner)
    const pending = this.#pending.get(hop)
    if (op === OP.fail && decodeFail(inner).op === OP.forward) {
      this.#broken(hopError(this.#hops, hop, 'PEER_REFUSED', { status: decodeFail(inner).code }))
      return
    }
    if (pending === undefined || !isAnswer(pending.op, op, inner)) throw badFrame('op')
    this.#pending.delete(hop)
    pending.resolve(message)
  }

  #broken(error: LlmNodeError): void {
    if (!this.#hooks.onBroken(error)) this.end(error)
  }

  /** A hop that cannot read the CREATE closes the stream: it is not the node that was looked for, or it has stopped. */
  #linkEnded(): void {
    this.end(hopError(this.#hops, 0, this.#created === undefined ? 'CIRCUIT_BROKEN' : 'PEER_UNREACHABLE'))
  }

  /** Some hop does not keep to the protocol; which one cannot be known. */
  #violation(): void {
    this.end(hopError(this.#hops, 0, 'CIRCUIT_BROKEN'))
  }
}

function isAnswer(asked: Op, op: Op, inner: Uint8Array): boolean {
  if (asked === OP.extend) return op === OP.extended || op === OP.extendFail
  if (asked === OP.ping) return op === OP.pong
  return op === OP.ok ? decodeOk(inner) === asked : op === OP.fail && decodeFail(inner).op === asked
}
