import { concatBytes } from '../base/bytes.ts'
import { assertInput, LlmNodeError, toLlmNodeError } from '../base/errors.ts'
import { createSecret } from '../base/secret.ts'
import { createEntryCircuit, type EntryCircuit } from './circuit.ts'
import { KEY_BYTES } from './crypto.ts'
import {
  createSegmentOpener,
  createSegmentSealer,
  type DataFrame,
  KIND,
  type SegmentOpener,
  type SegmentSealer,
} from './data.ts'
import { badFrame } from './frames.ts'
import type { ClientMessage } from './handshake-messages.ts'
import { ANSWER_STEP, answerHeader, errorCodeOf } from './hop-answer.ts'
import type { HopContext } from './hop-context.ts'
import { copySegment, encodeAnswerSet, encodeRelaySet, newSegment, OP, type RelayMode } from './ops.ts'
import { createOpener, createSealer, MATERIAL_BYTES } from './ratchet.ts'
import type { HopTarget } from './ring.ts'
import { createRingEnd, type OwnedRingEnd, type RingEnds } from './ring-end.ts'
import { hopError } from './ring-errors.ts'

/** A circuit around one hop that generates for this node (protocol.md §5), with the relays between them. */
export interface AnswerCircuit {
  /** 32 bytes that only the two ends know: whoever wants to be known to the answering node signs them. */
  readonly exporter: Uint8Array
  /**
   * The answer to the circuit's only request, as it comes. Throws PEER_REFUSED with the answering node's code in
   * `meta.status`, HOP_TIMEOUT, CIRCUIT_BROKEN, ABORTED, LIMIT.
   */
  ask(request: Uint8Array): AsyncGenerator<Uint8Array>
  close(): void
}

export interface AnswerDeps {
  readonly ends: RingEnds
  /** Once, whatever ended it, also when it could not be built. */
  onEnd(): void
}

/**
 * Builds hop by hop, then back to this node. `hops`: relays and exactly one `answer`. Throws what building a ring throws;
 * PEER_REFUSED when the node answers nobody, or nobody more.
 */
export async function openAnswerCircuit(
  context: HopContext,
  deps: AnswerDeps,
  hops: readonly HopTarget[],
  signal: AbortSignal,
): Promise<AnswerCircuit> {
  const opening = new AnswerEntry(context, deps, hops, signal)
  try {
    checkHops(context, hops)
    await opening.build()
    return opening
  } catch (error) {
    const reason = toLlmNodeError(error)
    opening.end(reason)
    throw reason
  }
}

class AnswerEntry implements AnswerCircuit {
  exporter: Uint8Array = new Uint8Array(0)
  readonly #context: HopContext
  readonly #deps: AnswerDeps
  readonly #hops: readonly HopTarget[]
  readonly #signal: AbortSignal
  readonly #circuit: EntryCircuit
  readonly #frames: DataFrame[] = []
  #sealer: SegmentSealer | undefined
  #opener: SegmentOpener | undefined
  #end: OwnedRingEnd | undefined
  #error: LlmNodeError | undefined
  #wake: () => void = () => {}

  constructor(context: HopContext, deps: AnswerDeps, hops: readonly HopTarget[], signal: AbortSignal) {
    this.#context = context
    this.#deps = deps
    this.#hops = hops
    this.#signal = signal
    this.#circuit = createEntryCircuit(context, hops, {
      onBroken: () => false,
      onEnded: (error) => this.end(error),
    })
  }

  async build(): Promise<void> {
    const signal = this.#signal
    for (const [index, hop] of this.#hops.entries()) {
      const message = messageFor(hop.role, this.#context)
      const { status } =
        index === 0
          ? await this.#circuit.connect(hop, message, signal)
          : await this.#circuit.extend(hop, message, { signal })
      if (status !== 'OK') throw hopError(this.#hops, index, 'PEER_REFUSED', { status })
    }
    await this.#closeRing()
    await this.#setUp()
    this.#throwIfEnded()
    const exporter = this.#circuit.takeExporter()
    this.exporter = exporter?.reveal().slice() ?? this.exporter
    exporter?.wipe()
    signal.addEventListener('abort', this.#onAbort, { once: true })
  }

  async *ask(request: Uint8Array): AsyncGenerator<Uint8Array> {
    const { limits } = this.#context
    assertInput(request.length <= limits.answerRequestBytes, 'The request is too long for one answer circuit.')
    let [received, acknowledged] = [0, 0]
    try {
      this.#send(ANSWER_STEP.end, 0, request)
      for (;;) {
        const { header, body } = await this.#next()
        if (header.pos !== received) throw badFrame('pos')
        if (header.step === ANSWER_STEP.end) return
        if (header.step === ANSWER_STEP.error) throw refusedBy(errorCodeOf(body))
        received += body.length
        if (received > limits.answerBytes) throw new LlmNodeError('LIMIT', 'The answer is too long.')
        yield body
        if (received - acknowledged < limits.answerAckBytes) continue
        acknowledged = received
        this.#send(ANSWER_STEP.data, received, new Uint8Array(0))
      }
    } finally {
      this.close()
    }
  }

  close(): void {
    this.end(new LlmNodeError('ABORTED', 'Stopped on request.'))
  }

  end(error: LlmNodeError): void {
    if (this.#error !== undefined) return
    this.#error = error
    this.#signal.removeEventListener('abort', this.#onAbort)
    this.exporter.fill(0)
    this.#circuit.end(error)
    this.#sealer?.wipe()
    this.#opener?.wipe()
    if (this.#end !== undefined) {
      this.#deps.ends.remove(this.#end.end)
      this.#end.close()
    }
    this.#deps.onEnd()
    this.#wake()
  }

  /** What is made after the end nobody would overwrite. */
  #throwIfEnded(): void {
    if (this.#error !== undefined) throw this.#error
  }

  readonly #onAbort = (): void => this.close()

  #send(step: number, pos: number, body: Uint8Array): void {
    this.#sealer?.seal(answerHeader(step, pos, body.length), body, (frame) => this.#circuit.sendData(frame))
  }

  /** The next frame; in silence the answering hop is asked now and then whether it is still there. */
  async #next(): Promise<DataFrame> {
    const { timers, limits } = this.#context
    for (;;) {
      const frame = this.#frames.shift()
      if (frame !== undefined) return frame
      if (this.#error !== undefined) throw this.#error
      let cancel = () => {}
      const silent = await new Promise<boolean>((resolve) => {
        this.#wake = () => resolve(false)
        cancel = timers.after(limits.answerSilenceMs, () => resolve(true))
      })
      cancel()
      if (!silent) continue
      const hop = this.#hops.findIndex(({ role }) => role === 'answer')
      await this.#circuit.ping(hop, { timeoutMs: limits.opMs })
    }
  }

  #onReturn(frame: Uint8Array): void {
    if (this.#error !== undefined) return
    try {
      const whole = this.#opener?.push(frame)
      if (whole === undefined || whole.header.kind !== KIND.answer) return
      this.#frames.push(whole)
      // The window keeps an honest hop far below that.
      if (this.#frames.length > this.#context.limits.answerBytes / 1_024) throw badFrame('window')
      this.#wake()
    } catch {
      this.end(hopError(this.#hops, this.#hops.length, 'CIRCUIT_BROKEN'))
    }
  }

  async #closeRing(): Promise<void> {
    const { transport, limits, timers } = this.#context
    const last = this.#hops.at(-1)
    if (last === undefined) throw new LlmNodeError('INTERNAL', 'A circuit without hops.')
    const broken = () => this.end(hopError(this.#hops, this.#hops.length, 'CIRCUIT_BROKEN'))
    const owned = createRingEnd(this.#context, last.peerId, {
      onData: (frame) => this.#onReturn(frame),
      onEnd: broken,
    })
    this.#end = owned
    const { end } = owned
    try {
      if (!transport.isConnected(last.peerId)) {
        const timeout = new AbortController()
        const cancel = timers.after(limits.connectMs, () => timeout.abort())
        await transport.connect(last, { signal: AbortSignal.any([this.#signal, timeout.signal]) }).catch(() => {})
        cancel()
      }
      const onionKey = end.onionKeys[0]?.publicKey ?? new Uint8Array(KEY_BYTES)
      const { peerId } = transport.self
      const self = { peerId, addrs: transport.self.addrs(), addressKey: end.addressKey, onionKey }
      const onCreate = (publicX: Uint8Array) => this.#deps.ends.add(publicX, end)
      const options = { signal: this.#signal, onCreate }
      const { status } = await this.#circuit.extend(self, messageFor('relay', this.#context), options)
      if (status !== 'OK') throw hopError(this.#hops, this.#hops.length, 'PEER_REFUSED', { status })
    } finally {
      owned.wipe()
    }
  }

  /** Keys for both segments and for every relay's layer, each told to its hop; the entry keeps its own ends. */
  async #setUp(): Promise<void> {
    this.#throwIfEnded()
    const { crypto, limits } = this.#context
    const answering = this.#hops.findIndex(({ role }) => role === 'answer')
    const [segIn, segOut] = [newSegment(crypto.random), newSegment(crypto.random)]
    const layers = this.#hops.map(() => createSecret(crypto.random(MATERIAL_BYTES)))
    const copyOfLayer = (index: number) => createSecret(concatBytes(layers[index]?.reveal() ?? new Uint8Array(0)))
    const front = layers.map((_, index) => index).filter((index) => index < answering)
    const back = layers.map((_, index) => index).filter((index) => index > answering)
    const sealLayers = front.toReversed().map((index) => createSealer(copyOfLayer(index), 'r', crypto))
    const openLayers = back.toReversed().map((index) => createOpener(copyOfLayer(index), 'r', crypto))
    const kinds = new Set([KIND.answer, KIND.padding])
    const grant = { kinds, hiddenSize: 0, maxRows: 0, maxBytes: limits.answerWindowBytes }
    this.#sealer = createSegmentSealer(copySegment(segIn), sealLayers, crypto)
    this.#opener = createSegmentOpener(copySegment(segOut), openLayers, grant, crypto)
    const own = createSecret(crypto.random(MATERIAL_BYTES))
    const request = (hop: number, mode: RelayMode, material = layers[hop] ?? own) =>
      this.#request(hop, OP.relaySet, encodeRelaySet({ mode, material }))
    try {
      await Promise.all([
        ...front.map((hop) => request(hop, 'peel')),
        ...back.map((hop) => request(hop, 'add')),
        request(this.#hops.length, 'pass', own),
        this.#request(answering, OP.answerSet, encodeAnswerSet({ segIn, segOut })),
      ])
    } finally {
      for (const secret of [...layers, own, segIn.material, segOut.material]) secret.wipe()
    }
  }

  async #request(hop: number, op: typeof OP.relaySet | typeof OP.answerSet, body: Uint8Array): Promise<void> {
    await this.#circuit.request(hop, op, body, { signal: this.#signal, timeoutMs: this.#context.limits.opMs })
    body.fill(0)
  }
}

function checkHops({ limits, transport }: HopContext, hops: readonly HopTarget[]): void {
  const answering = hops.filter(({ role }) => role === 'answer').length
  assertInput(answering === 1, 'An answer circuit has one hop that answers.')
  assertInput(hops.length - answering <= limits.relayHops, 'An answer circuit has at most 4 relays.')
  assertInput(
    hops.every(({ role }) => role !== 'compute'),
    'Nobody computes layers on an answer circuit.',
  )
  const peers = new Set(hops.map(({ peerId }) => peerId))
  assertInput(peers.size === hops.length && !peers.has(transport.self.peerId), 'Every hop must be another node.')
}

function messageFor(role: 'relay' | 'answer' | 'compute', { limits }: HopContext): ClientMessage {
  const none = new Uint8Array(KEY_BYTES)
  const span = { start: 0, end: 0 }
  const rest = { modelId: none, span, maxContext: 0, numericsClass: none, lifetimeS: limits.lifeS }
  return { role, ...rest }
}

function refusedBy(status: string): LlmNodeError {
  return new LlmNodeError('PEER_REFUSED', `The node that was asked did not answer (${status}).`, {
    hint: 'It decides for whom it generates, and how much: ask its owner, or another node.',
    meta: { status },
  })
}
