import { utf8 } from '../base/bytes.ts'
import { LlmNodeError, toLlmNodeError } from '../base/errors.ts'
import type { Secret } from '../base/secret.ts'
import {
  createSegmentOpener,
  createSegmentSealer,
  type DataHeader,
  KIND,
  type SegmentOpener,
  type SegmentSealer,
} from './data.ts'
import { badFrame } from './frames.ts'
import type { HopData, HopDataDeps } from './hop-data.ts'
import { decodeAnswerSet, encodeOk, OP, type Op } from './ops.ts'

/** `step` of an answer frame. A request is one frame that ends; empty data frames say how much has arrived. */
export const ANSWER_STEP = { data: 0, end: 1, error: 2 } as const

/** No rows: `pos` is the offset of the bytes. */
export function answerHeader(step: number, pos: number, totalBytes: number): DataHeader {
  return { kind: KIND.answer, step, pos, nTokens: 0, want: 0, hiddenSize: 0, totalBytes }
}

/**
 * A hop that generates for a caller it does not know: one request, one answer, then nothing (protocol.md §5). It can tell
 * the caller only by what the request says. Takes the exporter over.
 */
export function createAnswerData(exporter: Secret, deps: HopDataDeps): HopData {
  return new AnswerData(exporter, deps)
}

class AnswerData implements HopData {
  readonly #deps: HopDataDeps
  readonly #exporter: Secret
  readonly #stop = new AbortController()
  #opener: SegmentOpener | undefined
  #sealer: SegmentSealer | undefined
  #started = false
  #sentBytes = 0
  #receivedBytes = 0
  #wake: () => void = () => {}

  constructor(exporter: Secret, deps: HopDataDeps) {
    this.#exporter = exporter
    this.#deps = deps
  }

  get isSetUp(): boolean {
    return this.#opener !== undefined
  }

  setUp(op: Op, inner: Uint8Array): void {
    if (op !== OP.answerSet || this.#opener !== undefined) throw badFrame('op')
    const { crypto, limits } = this.#deps.context
    const { segIn, segOut } = decodeAnswerSet(inner)
    const kinds = new Set([KIND.answer, KIND.padding])
    const grant = { kinds, hiddenSize: 0, maxRows: 0, maxBytes: limits.answerRequestBytes }
    this.#opener = createSegmentOpener(segIn, [], grant, crypto)
    this.#sealer = createSegmentSealer(segOut, [], crypto)
    this.#deps.reply(OP.ok, encodeOk(OP.answerSet))
  }

  push(frame: Uint8Array): void {
    if (this.#opener === undefined) throw badFrame('cmd')
    const whole = this.#opener.push(frame)
    if (whole === undefined || whole.header.kind === KIND.padding) return
    const { step, pos } = whole.header
    if (!this.#started) {
      if (step !== ANSWER_STEP.end || pos !== 0) throw badFrame('step')
      this.#started = true
      void this.#run(whole.body)
      return
    }
    const isAck = step === ANSWER_STEP.data && whole.body.length === 0
    if (!isAck || pos < this.#receivedBytes || pos > this.#sentBytes) throw badFrame('pos')
    this.#receivedBytes = pos
    this.#wake()
  }

  /** The way on has gone, and with it the caller. */
  allowReset(): void {
    this.#stop.abort()
  }

  wipe(): void {
    this.#stop.abort()
    this.#wake()
    this.#exporter.wipe()
    this.#opener?.wipe()
    this.#sealer?.wipe()
  }

  async #run(request: Uint8Array): Promise<void> {
    const { context, destroy } = this.#deps
    const { signal } = this.#stop
    try {
      if (context.answers === null) throw new LlmNodeError('PEER_REFUSED', 'This node answers nobody.')
      const call = { exporter: this.#exporter.reveal().slice(), signal }
      for await (const piece of context.answers.answer(request, call)) await this.#say(piece)
      this.#send(ANSWER_STEP.end, new Uint8Array(0))
    } catch (error) {
      if (signal.aborted) return
      const { code } = toLlmNodeError(error)
      if (code === 'INTERNAL') context.logger.error({ err: error }, 'an answer failed')
      try {
        this.#send(ANSWER_STEP.error, utf8(code))
      } catch {
        destroy('an answer could not be sent')
      }
    }
  }

  async #say(piece: Uint8Array): Promise<void> {
    const { answerFrameBytes, answerBytes, answerWindowBytes } = this.#deps.context.limits
    for (let offset = 0; offset < piece.length; offset += answerFrameBytes) {
      const part = piece.subarray(offset, offset + answerFrameBytes)
      if (this.#sentBytes + part.length > answerBytes) throw new LlmNodeError('LIMIT', 'The answer is too long.')
      while (this.#sentBytes + part.length - this.#receivedBytes > answerWindowBytes && !this.#stop.signal.aborted) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve
        })
      }
      this.#send(ANSWER_STEP.data, part)
    }
  }

  #send(step: number, body: Uint8Array): void {
    this.#stop.signal.throwIfAborted()
    this.#sealer?.seal(answerHeader(step, this.#sentBytes, body.length), body, (frame) => this.#deps.send(frame))
    this.#sentBytes += body.length
  }
}

/** What a refusal says: a code, and nothing that a caller could be made to print. */
export function errorCodeOf(body: Uint8Array): string {
  const text = body.length <= 64 ? String.fromCharCode(...body) : ''
  return /^[A-Z][A-Z0-9_]*$/.test(text) ? text : 'INTERNAL'
}
