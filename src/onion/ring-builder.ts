import { generateKeyPairSync } from 'node:crypto'
import { concatBytes, equalBytes } from '../base/bytes.ts'
import { assertInput, LlmNodeError, toLlmNodeError } from '../base/errors.ts'
import { createSecret } from '../base/secret.ts'
import { createEntryCircuit, type EntryCircuit } from './circuit.ts'
import { isZero, KEY_BYTES } from './crypto.ts'
import { createSegmentOpener, createSegmentSealer, KIND } from './data.ts'
import type { OnionKey } from './handshake.ts'
import type { ClientMessage, ServerMessage } from './handshake-messages.ts'
import type { HopContext, RingEnd } from './hop-context.ts'
import { copySegment, encodePipeSet, encodeRelaySet, newSegment, OP, type Op, type RelayMode } from './ops.ts'
import { createOpener, createSealer, MATERIAL_BYTES } from './ratchet.ts'
import type { HopTarget, Ring, RingOptions } from './ring.ts'
import { hopError } from './ring-errors.ts'
import { createRingSession, type RingSession } from './ring-session.ts'

/** Where the entry's own end of a ring waits for its closing CREATE. */
export interface RingEnds {
  add(publicX: Uint8Array, end: RingEnd): void
  remove(end: RingEnd): void
}

/**
 * Builds a ring: hop by hop, then to this node itself, then the keys for everybody (protocol.md §4). Reserves KV on every
 * compute hop, in the last step. Throws PEER_UNREACHABLE, PEER_REFUSED, AUTH_FAILED, HOP_TIMEOUT, CIRCUIT_BROKEN,
 * BAD_INPUT or ABORTED; nothing is left behind then.
 */
export async function buildRing(
  context: HopContext,
  ends: RingEnds,
  options: RingOptions,
  signal: AbortSignal,
): Promise<Ring> {
  checkOptions(context, options)
  const { hops } = options
  const state: { session?: RingSession; closeReturn?: () => void } = {}
  const circuit = createEntryCircuit(context, hops, (error) => {
    state.session?.onCircuitEnd(error)
    ends.remove(end)
    state.closeReturn?.()
  })
  const end = createRingEnd(context, lastOf(hops).peerId, {
    attach: (destroy) => {
      state.closeReturn = destroy
    },
    onData: (frame) => state.session?.onReturn(frame),
    onEnd: () => {
      if (state.session !== undefined) state.session.onReturnEnd()
      else circuit.end(hopError(hops, hops.length, 'CIRCUIT_BROKEN'))
    },
  })
  try {
    const grants = await telescope(context, circuit, options, signal)
    await closeRing(context, ends, circuit, { end, options, signal })
    const setup = planRing(context, options, grants)
    const rttMs = await setUpHops(context, circuit, setup.messages, { signal, timeoutMs: context.limits.opMs })
    state.session = createRingSession(context, {
      ...setup.parts,
      circuit,
      rttMs,
      closeReturn: () => state.closeReturn?.(),
    })
    if (circuit.ended !== undefined) throw circuit.ended
    return state.session
  } catch (error) {
    const reason = toLlmNodeError(error)
    circuit.end(reason)
    throw reason
  } finally {
    if (end.addressKey !== context.options.identity.addressKey) for (const key of end.onionKeys) key.privateKey.wipe()
  }
}

function checkOptions({ limits, transport }: HopContext, options: RingOptions): void {
  const { hops } = options
  const compute = hops.filter((hop) => hop.role === 'compute')
  const relays = hops.length - compute.length
  assertInput(compute.length >= 1 && compute.length <= limits.computeHops, 'A ring needs 1 to 8 compute hops.')
  assertInput(relays <= limits.relayHops && hops.length <= limits.hops, 'A ring has at most 4 relays.')
  const peers = new Set(hops.map((hop) => hop.peerId))
  assertInput(peers.size === hops.length && !peers.has(transport.self.peerId), 'Every hop must be another node.')
  assertInput(options.modelId.length === KEY_BYTES, 'The model id has 32 bytes.')
  assertInput(options.numericsClass.length === KEY_BYTES, 'The numerics class has 32 bytes.')
  let next: number | undefined
  for (const { span } of compute) {
    assertInput(span !== undefined && span.end > span.start, 'A compute hop needs its layers.')
    assertInput(next === undefined || span.start === next, 'The layers of the hops must follow each other.')
    next = span.end
  }
}

function messageFor(hop: HopTarget | undefined, context: HopContext, options: RingOptions): ClientMessage {
  const lifetimeS = options.lifetimeS ?? context.limits.lifeS
  if (hop?.span === undefined || hop.role !== 'compute') {
    const none = new Uint8Array(KEY_BYTES)
    const span = { start: 0, end: 0 }
    return { role: 'relay', modelId: none, span, maxContext: 0, numericsClass: none, lifetimeS }
  }
  const { modelId, maxContext, numericsClass } = options
  return { role: 'compute', modelId, span: hop.span, maxContext, numericsClass, lifetimeS }
}

async function telescope(
  context: HopContext,
  circuit: EntryCircuit,
  options: RingOptions,
  signal: AbortSignal,
): Promise<ServerMessage[]> {
  const { hops } = options
  const grants: ServerMessage[] = []
  for (const [index, hop] of hops.entries()) {
    const message = messageFor(hop, context, options)
    const grant =
      index === 0 ? await circuit.connect(hop, message, signal) : await circuit.extend(hop, message, { signal })
    checkGrant(grant, index, options)
    grants.push(grant)
  }
  return grants
}

function checkGrant(grant: ServerMessage, index: number, options: RingOptions): void {
  const { hops, numericsClass, hiddenSize } = options
  const refused = (status: string) => hopError(hops, index, 'PEER_REFUSED', { status })
  if (grant.status !== 'OK') throw refused(grant.status)
  if (grant.lifeS === 0) throw refused('LIFE')
  if (hops[index]?.role !== 'compute') return
  if (!isZero(numericsClass) && !equalBytes(grant.numericsClass, numericsClass)) throw refused('NUMERICS_CLASS')
  if (grant.maxContext === 0) throw refused('CONTEXT_TOO_LONG')
  if (hiddenSize === 0) throw refused('BAD_INPUT')
}

function createRingEnd(
  context: HopContext,
  lastHopPeer: string,
  hooks: { attach(destroy: () => void): void; onData(frame: Uint8Array): void; onEnd(): void },
): RingEnd {
  const { options, clock } = context
  const keys = options.published()
    ? { addressKey: options.identity.addressKey, onionKeys: options.identity.onionKeys(clock.nowMs()) }
    : oneTimeKeys(context)
  return {
    ...keys,
    lastHopPeer,
    attach: (circuit) => hooks.attach(() => circuit.destroy('the ring is closed')),
    onData: hooks.onData,
    onEnd: hooks.onEnd,
  }
}

/** A node that has published nothing tells the last hop nothing lasting about itself. */
function oneTimeKeys({ crypto }: HopContext): { addressKey: Uint8Array; onionKeys: readonly OnionKey[] } {
  const der = generateKeyPairSync('ed25519').publicKey.export({ format: 'der', type: 'spki' })
  const privateKey = createSecret(crypto.random(KEY_BYTES))
  const onionKey = { publicKey: crypto.x25519PublicKey(privateKey.reveal()), privateKey }
  return { addressKey: der.subarray(-KEY_BYTES), onionKeys: [onionKey] }
}

/** The last hop extends to this node; the stream that comes in is recognised by (ID, X). */
async function closeRing(
  context: HopContext,
  ends: RingEnds,
  circuit: EntryCircuit,
  ring: { end: RingEnd; options: RingOptions; signal: AbortSignal },
): Promise<void> {
  const { transport, limits, timers } = context
  const { end, options, signal } = ring
  const last = lastOf(options.hops)
  const onionKey = end.onionKeys[0]?.publicKey
  if (onionKey === undefined) throw new LlmNodeError('INTERNAL', 'The ring has no key of its own.')
  if (!transport.isConnected(last.peerId)) {
    // Behind NAT the last hop can only use a connection that goes out from here. Without one it may still dial.
    const timeout = new AbortController()
    const cancel = timers.after(limits.connectMs, () => timeout.abort())
    await transport.connect(last, { signal: AbortSignal.any([signal, timeout.signal]) }).catch(() => {})
    cancel()
  }
  const { peerId } = transport.self
  const self = { peerId, addrs: transport.self.addrs(), addressKey: end.addressKey, onionKey }
  const grant = await circuit.extend(self, messageFor(undefined, context, options), {
    signal,
    onCreate: (publicX) => ends.add(publicX, end),
  })
  checkGrant(grant, options.hops.length, options)
}

interface HopMessage {
  readonly op: Op
  readonly body: Uint8Array
}

/** Keys for every segment and relay layer, what each hop is told of them, and the entry's own ends. */
function planRing(context: HopContext, options: RingOptions, grants: readonly ServerMessage[]) {
  const { crypto, limits } = context
  const { hops, hiddenSize } = options
  const compute = hops.flatMap((hop, index) => (hop.role === 'compute' ? [index] : []))
  const first = compute[0] ?? 0
  const last = compute.at(-1) ?? 0
  const windowBytes = Math.min(limits.queueBytes, ...grants.map((grant) => grant.queueBytes))
  const maxRows = Math.min(limits.maxRows, Math.floor((windowBytes - limits.frameSpareBytes) / (4 * hiddenSize)))
  if (!(maxRows >= 1)) throw new LlmNodeError('PEER_REFUSED', 'A hop grants too little room for one row.')
  const segments = Array.from({ length: compute.length + 1 }, () => newSegment(crypto.random))
  const layerKeys = hops.map(() => createSecret(crypto.random(MATERIAL_BYTES)))
  const copyOfLayer = (index: number) => createSecret(concatBytes(layerKeys[index]?.reveal() ?? new Uint8Array(0)))

  const messages: HopMessage[] = hops.map((hop, index) => {
    const at = compute.indexOf(index)
    const [segIn, segOut] = [segments[at], segments[at + 1]]
    if (at < 0 || segIn === undefined || segOut === undefined || hop.span === undefined) {
      const mode: RelayMode = index < first ? 'peel' : index > last ? 'add' : 'pass'
      const material = layerKeys[index] ?? createSecret(new Uint8Array(MATERIAL_BYTES))
      return { op: OP.relaySet, body: encodeRelaySet({ mode, material }) }
    }
    const setup = { hiddenSize, maxRows, span: hop.span, tail: index === last, longRope: options.longRope ?? false }
    return { op: OP.pipeSet, body: encodePipeSet({ segIn, segOut, ...setup }) }
  })
  const own = createSecret(crypto.random(MATERIAL_BYTES))
  messages.push({ op: OP.relaySet, body: encodeRelaySet({ mode: 'pass', material: own }) })
  own.wipe()

  // Innermost first when sealing, outermost first when opening: both times from the far relay to the near one.
  const front = hops.map((_, index) => index).filter((index) => index < first)
  const back = hops.map((_, index) => index).filter((index) => index > last)
  const sealLayers = front.reverse().map((index) => createSealer(copyOfLayer(index), 'r', crypto))
  const openLayers = back.reverse().map((index) => createOpener(copyOfLayer(index), 'r', crypto))
  const [segOut, segIn] = [segments[0], segments.at(-1)]
  if (segOut === undefined || segIn === undefined) throw new LlmNodeError('INTERNAL', 'A ring without segments.')
  const grant = { kinds: new Set([KIND.result, KIND.padding, KIND.cancel]), hiddenSize, maxRows, maxBytes: windowBytes }
  const parts = {
    hops,
    hiddenSize,
    maxRows,
    windowBytes,
    relayLayers: Math.max(front.length, back.length),
    maxContext: Math.min(...compute.map((index) => grants[index]?.maxContext ?? 0)),
    lifeS: Math.min(...grants.map((each) => each.lifeS)),
    sealer: createSegmentSealer(copySegment(segOut), sealLayers, crypto),
    opener: createSegmentOpener(copySegment(segIn), openLayers, grant, crypto),
  }
  for (const { material } of segments) material.wipe()
  for (const material of layerKeys) material.wipe()
  return { messages, parts }
}

/** To all hops at once; each answer's time is a first measure of the round trip. */
async function setUpHops(
  { clock }: HopContext,
  circuit: EntryCircuit,
  messages: readonly HopMessage[],
  options: { signal: AbortSignal; timeoutMs: number },
): Promise<number[]> {
  return await Promise.all(
    messages.map(async ({ op, body }, hop) => {
      const startedMs = clock.monotonicMs()
      await circuit.request(hop, op, body, options)
      body.fill(0)
      return clock.monotonicMs() - startedMs
    }),
  )
}

function lastOf(hops: readonly HopTarget[]): HopTarget {
  const last = hops.at(-1)
  if (last === undefined) throw new LlmNodeError('BAD_INPUT', 'A ring needs a hop.')
  return last
}
