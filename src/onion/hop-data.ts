import { toHex } from '../base/bytes.ts'
import { isLlmNodeError } from '../base/errors.ts'
import { type Span, spanContains } from '../base/span.ts'
import { createRelayLayer, type RelayLayer } from './data.ts'
import { badFrame } from './frames.ts'
import type { ClientMessage, ServerMessage } from './handshake-messages.ts'
import type { HopContext } from './hop-context.ts'
import { createPipe, type Pipe } from './hop-pipe.ts'
import {
  decodeOutSet,
  decodePipeSet,
  decodeRelaySet,
  encodeFail,
  encodeOk,
  type FailCode,
  isFailCode,
  OP,
  type Op,
  type OutSetBody,
  type PipeSetBody,
  type SegmentKeys,
} from './ops.ts'
import type { ComputeSession } from './ports.ts'
import type { QueueMeter } from './send-queue.ts'

/** What a hop does with data frames: a relay or a compute hop. Throws on violations; the circuit has to end then. */
export interface HopData {
  /** PIPE_SET or RELAY_SET. Once, and again after `allowReset`; OUT_SET only then. */
  setUp(op: Op, inner: Uint8Array): void
  push(frame: Uint8Array): void
  /** The successor has gone: what comes out goes nowhere until the next set-up. */
  allowReset(): void
  readonly isSetUp: boolean
  /** Frees keys, frames and KV. */
  wipe(): void
}

export interface HopDataDeps {
  readonly context: HopContext
  readonly predecessor: string
  readonly meter: QueueMeter
  readonly message: ClientMessage
  readonly grant: ServerMessage
  reply(op: Op, inner: Uint8Array): void
  /** To the successor, or to the entry's end of a ring. */
  send(frame: Uint8Array): void
  destroy(reason: string): void
}

export function createRelayData(deps: HopDataDeps): HopData {
  let layer: RelayLayer | undefined
  let mayReset = false
  return {
    get isSetUp() {
      return layer !== undefined
    },
    setUp(op, inner) {
      if (op !== OP.relaySet || (layer !== undefined && !mayReset)) throw badFrame('op')
      const { mode, material } = decodeRelaySet(inner)
      layer?.wipe()
      mayReset = false
      layer = createRelayLayer(mode, material, deps.context.crypto)
      deps.reply(OP.ok, encodeOk(OP.relaySet))
    },
    push(frame) {
      if (layer === undefined) throw badFrame('cmd')
      deps.send(layer.pass(frame))
    },
    allowReset() {
      mayReset = true
    },
    wipe: () => layer?.wipe(),
  }
}

export function createComputeData(deps: HopDataDeps): HopData {
  return new ComputeData(deps)
}

class ComputeData implements HopData {
  readonly #deps: HopDataDeps
  readonly #segmentIds = new Set<string>()
  #pipe: Pipe | undefined
  #reserved: { session: ComputeSession; setup: PipeSetBody } | undefined
  #mayReset = false

  constructor(deps: HopDataDeps) {
    this.#deps = deps
  }

  get isSetUp(): boolean {
    return this.#pipe !== undefined
  }

  setUp(op: Op, inner: Uint8Array): void {
    if (op === OP.pipeSet) this.#setPipe(decodePipeSet(inner))
    else if (op === OP.outSet) this.#setOut(decodeOutSet(inner))
    else throw badFrame('op')
  }

  push(frame: Uint8Array): void {
    if (this.#pipe === undefined) throw badFrame('cmd')
    this.#pipe.push(frame)
  }

  allowReset(): void {
    this.#mayReset = true
    this.#pipe?.mute()
  }

  wipe(): void {
    this.#pipe?.wipe()
    this.#reserved?.session.close()
  }

  #setPipe(setup: PipeSetBody): void {
    const { context, grant, meter, reply, send, destroy } = this.#deps
    if (this.#pipe !== undefined && (!this.#mayReset || this.#pipe.busy)) throw badFrame('op')
    this.#noteSegment(setup.segIn)
    this.#noteSegment(setup.segOut)
    const session = this.#reserve(setup)
    if (typeof session === 'string') {
      reply(OP.fail, encodeFail(OP.pipeSet, session))
      return
    }
    this.#pipe?.wipe()
    this.#mayReset = false
    this.#pipe = createPipe(setup, {
      session,
      crypto: context.crypto,
      meter,
      queueBytes: grant.queueBytes,
      send,
      fail(code) {
        reply(OP.fail, encodeFail(OP.forward, code))
        destroy(code)
      },
      broken: destroy,
    })
    reply(OP.ok, encodeOk(OP.pipeSet))
  }

  /** Only the way on is another one: KV, the way in and what is being computed stay. */
  #setOut({ fromStep, segOut }: OutSetBody): void {
    if (this.#pipe === undefined || !this.#mayReset) throw badFrame('op')
    this.#noteSegment(segOut)
    this.#mayReset = false
    this.#pipe.turnOut(segOut, fromStep)
    this.#deps.reply(OP.ok, encodeOk(OP.outSet))
  }

  #noteSegment({ id }: SegmentKeys): void {
    const text = toHex(id)
    if (this.#segmentIds.has(text)) throw badFrame('segment id')
    this.#segmentIds.add(text)
  }

  /** The KV for this set-up, reserved now or before. A code: refused. */
  #reserve(setup: PipeSetBody): ComputeSession | FailCode {
    const { context, message, grant } = this.#deps
    const { span, longRope, hiddenSize, maxRows } = setup
    if (this.#reserved !== undefined) {
      return sameLayers(this.#reserved.setup, setup) ? this.#reserved.session : 'BAD_INPUT'
    }
    if (!spanContains(message.span, span)) return 'SPAN'
    if (maxRows * hiddenSize * 4 > grant.queueBytes - context.limits.frameSpareBytes) return 'BAD_INPUT'
    const session = openSession(this.#deps, span, longRope)
    if (typeof session === 'string') return session
    if (session.hiddenSize !== hiddenSize) {
      session.close()
      return 'BAD_INPUT'
    }
    this.#reserved = { session, setup }
    return session
  }
}

function openSession(deps: HopDataDeps, span: Span, longRope: boolean): ComputeSession | FailCode {
  const { context, message, grant, predecessor } = deps
  if (context.compute === null) return 'SPAN'
  try {
    const { modelId } = message
    return context.compute.open({ modelId, span, maxContext: grant.maxContext, longRope, predecessor })
  } catch (error) {
    if (isLlmNodeError(error) && isFailCode(error.code)) return error.code
    throw error
  }
}

/** KV that was filled for other layers or another rope is of no use. */
function sameLayers(a: PipeSetBody, b: PipeSetBody): boolean {
  return (
    a.span.start === b.span.start &&
    a.span.end === b.span.end &&
    a.longRope === b.longRope &&
    a.hiddenSize === b.hiddenSize
  )
}
