import { toHex } from '../base/bytes.ts'
import { isLlmNodeError } from '../base/errors.ts'
import { type Span, spanContains } from '../base/span.ts'
import { createRelayLayer, type RelayLayer } from './data.ts'
import { badFrame } from './frames.ts'
import type { ClientMessage, ServerMessage } from './handshake-messages.ts'
import type { HopContext } from './hop-context.ts'
import { createPipe, type Pipe } from './hop-pipe.ts'
import {
  decodePipeSet,
  decodeRelaySet,
  encodeFail,
  encodeOk,
  type FailCode,
  isFailCode,
  OP,
  type Op,
  type PipeSetBody,
} from './ops.ts'
import type { ComputeSession } from './ports.ts'
import type { QueueMeter } from './send-queue.ts'

/** What a hop does with data frames: a relay or a compute hop. Throws on violations; the circuit has to end then. */
export interface HopData {
  /** PIPE_SET or RELAY_SET. Once, and again after `allowReset`. */
  setUp(op: Op, inner: Uint8Array): void
  push(frame: Uint8Array): void
  /** After a TRUNCATE. */
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
  const { context, message, grant } = deps
  const segmentIds = new Set<string>()
  let pipe: Pipe | undefined
  let reserved: { session: ComputeSession; setup: PipeSetBody } | undefined
  let mayReset = false

  /** The KV for this set-up, reserved now or before. A code: refused. */
  const reserve = (setup: PipeSetBody): ComputeSession | FailCode => {
    if (reserved !== undefined) return sameLayers(reserved.setup, setup) ? reserved.session : 'BAD_INPUT'
    if (!spanContains(message.span, setup.span)) return 'SPAN'
    if (setup.maxRows * setup.hiddenSize * 4 > grant.queueBytes - context.limits.frameSpareBytes) return 'BAD_INPUT'
    const session = openSession(deps, setup.span, setup.longRope)
    if (typeof session === 'string') return session
    if (session.hiddenSize !== setup.hiddenSize) {
      session.close()
      return 'BAD_INPUT'
    }
    reserved = { session, setup }
    return session
  }

  return {
    get isSetUp() {
      return pipe !== undefined
    },
    setUp(op, inner) {
      if (op !== OP.pipeSet) throw badFrame('op')
      if (pipe !== undefined && (!mayReset || pipe.busy)) throw badFrame('op')
      const setup = decodePipeSet(inner)
      for (const { id } of [setup.segIn, setup.segOut]) {
        const text = toHex(id)
        if (segmentIds.has(text)) throw badFrame('segment id')
        segmentIds.add(text)
      }
      const session = reserve(setup)
      if (typeof session === 'string') {
        deps.reply(OP.fail, encodeFail(OP.pipeSet, session))
        return
      }
      pipe?.wipe()
      mayReset = false
      pipe = createPipe(setup, {
        session,
        crypto: context.crypto,
        meter: deps.meter,
        queueBytes: grant.queueBytes,
        send: deps.send,
        fail(code) {
          deps.reply(OP.fail, encodeFail(OP.forward, code))
          deps.destroy(code)
        },
        broken: deps.destroy,
      })
      deps.reply(OP.ok, encodeOk(OP.pipeSet))
    },
    push(frame) {
      if (pipe === undefined) throw badFrame('cmd')
      pipe.push(frame)
    },
    allowReset() {
      mayReset = true
    },
    wipe() {
      pipe?.wipe()
      reserved?.session.close()
    },
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
