import { createSecret } from '../../../src/base/secret.ts'
import { openControlLayer, sealControlLayer } from '../../../src/onion/control.ts'
import { nodeCrypto } from '../../../src/onion/crypto.ts'
import { COMMAND, decodeControl, encodeControl } from '../../../src/onion/frames.ts'
import { createClientHandshake } from '../../../src/onion/handshake.ts'
import {
  type ClientMessage,
  decodeServerMessage,
  encodeClientMessage,
  type ServerMessage,
} from '../../../src/onion/handshake-messages.ts'
import { copySegment, encodePipeSet, encodeRelaySet, newSegment, OP, type PipeSetBody } from '../../../src/onion/ops.ts'
import type { FrameLink } from '../../../src/onion/ports.ts'
import { createOpener, createSealer, type Opener, type Sealer } from '../../../src/onion/ratchet.ts'
import type { MemoryNode } from './memory-network.ts'
import { HIDDEN, type SwarmNode } from './swarm.ts'
import { settle } from './virtual-clock.ts'

export const relayMessage: ClientMessage = {
  role: 'relay',
  modelId: new Uint8Array(32),
  span: { start: 0, end: 0 },
  maxContext: 0,
  numericsClass: new Uint8Array(32),
  lifetimeS: 3_600,
}
export const computeMessage: ClientMessage = {
  ...relayMessage,
  role: 'compute',
  modelId: new Uint8Array(32).fill(7),
  span: { start: 0, end: 4 },
  maxContext: 100,
}

/** A peer that speaks the protocol by hand, and so can break every rule of it. */
export interface RawCircuit {
  readonly link: FrameLink
  /** What came back, frame by frame. */
  readonly frames: Uint8Array[]
  readonly ended: boolean
  /** Undefined: the hop gave no CREATED. */
  readonly grant: ServerMessage | undefined
  /** Seals one op for the hop; `early` makes it CONTROL_EARLY. */
  send(op: number, inner?: Uint8Array, early?: boolean): void
  /** Sends one op and gives back the hop's answer, or 'ended'. */
  ask(op: number, inner?: Uint8Array, early?: boolean): Promise<{ op: number; inner: Uint8Array } | 'ended'>
  /** Opens the backward layers of what came since the last call. */
  read(): { op: number; inner: Uint8Array }[]
  sendFrame(frame: Uint8Array): void
}

export interface RawEnd {
  readonly link: FrameLink
  readonly frames: Uint8Array[]
  readonly ended: boolean
}

/** Collects what arrives on a link. */
export function watchLink(link: FrameLink): RawEnd {
  const state = { link, frames: [] as Uint8Array[], ended: false }
  link.onFrame((frame) => state.frames.push(frame))
  link.onEnd(() => {
    state.ended = true
  })
  return state
}

/** The CREATE of a handshake with `node`, and the handshake. */
export function rawCreate(node: SwarmNode, message: ClientMessage) {
  const target = { addressKey: node.addressKey, onionKey: node.onionKey }
  return createClientHandshake({ target, network: 'test', clientMessage: encodeClientMessage(message) }, nodeCrypto)
}

export async function openRaw(from: MemoryNode, node: SwarmNode, message = computeMessage): Promise<RawCircuit> {
  const end = watchLink(from.rawLink(node.peerId))
  const handshake = rawCreate(node, message)
  end.link.send(encodeControl(COMMAND.create, handshake.create))
  await settle()
  const created = end.frames.shift()
  if (created === undefined || created[0] !== COMMAND.created) return rawCircuit(end, undefined)
  const { serverMessage, keys } = handshake.finish(decodeControl(created))
  return rawCircuit(end, {
    grant: decodeServerMessage(serverMessage),
    forward: createSealer(keys.forward, 'f', nodeCrypto),
    backward: createOpener(keys.backward, 'b', nodeCrypto),
  })
}

function rawCircuit(
  end: RawEnd,
  keys: { grant: ServerMessage; forward: Sealer; backward: Opener } | undefined,
): RawCircuit {
  const need = () => {
    if (keys === undefined) throw new Error('the hop has not answered')
    return keys
  }
  const circuit: RawCircuit = {
    link: end.link,
    frames: end.frames,
    get ended() {
      return end.ended
    },
    grant: keys?.grant,
    sendFrame(frame) {
      if (!end.ended) end.link.send(frame)
    },
    send(op, inner = new Uint8Array(0), early = false) {
      const cmd = early ? COMMAND.controlEarly : COMMAND.control
      const message = { op: op as 0, inner }
      const body = sealControlLayer(need().forward, 'f', cmd, message, nodeCrypto)
      circuit.sendFrame(encodeControl(cmd, body))
    },
    async ask(op, inner, early) {
      circuit.send(op, inner, early)
      await settle()
      const answer = circuit.read().at(-1)
      return end.ended && answer === undefined ? 'ended' : (answer ?? { op: -1, inner: new Uint8Array(0) })
    },
    read() {
      const control = end.frames.splice(0).filter((frame) => frame[0] === COMMAND.control)
      return control.map((frame) => openControlLayer(need().backward, 'b', COMMAND.control, decodeControl(frame)))
    },
  }
  return circuit
}

/** A PIPE_SET and the copies of its segments that the other ends hold. */
export function rawPipe(change: Partial<PipeSetBody> = {}) {
  const segIn = newSegment(nodeCrypto.random)
  const segOut = newSegment(nodeCrypto.random)
  const other = { segIn: copySegment(segIn), segOut: copySegment(segOut) }
  const base = { hiddenSize: HIDDEN, maxRows: 64, span: { start: 0, end: 4 }, tail: true, longRope: false }
  return { body: encodePipeSet({ segIn, segOut, ...base, ...change }), ...other }
}

export function rawRelaySet(mode: 'pass' | 'peel' | 'add' = 'pass') {
  const material = nodeCrypto.random(76)
  return { body: encodeRelaySet({ mode, material: createSecret(Uint8Array.from(material)) }), material }
}

/** Makes an open compute circuit ready for data. */
export async function openPipe(from: MemoryNode, node: SwarmNode, change: Partial<PipeSetBody> = {}) {
  const circuit = await openRaw(from, node)
  const pipe = rawPipe(change)
  const answer = await circuit.ask(OP.pipeSet, pipe.body)
  if (answer === 'ended' || answer.op !== OP.ok) throw new Error('PIPE_SET was refused')
  return { circuit, ...pipe }
}
