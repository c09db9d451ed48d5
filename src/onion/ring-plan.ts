import { concatBytes } from '../base/bytes.ts'
import { LlmNodeError } from '../base/errors.ts'
import { createSecret } from '../base/secret.ts'
import { createSegmentOpener, createSegmentSealer, KIND, type SegmentOpener, type SegmentSealer } from './data.ts'
import type { ServerMessage } from './handshake-messages.ts'
import type { HopContext } from './hop-context.ts'
import {
  copySegment,
  encodeOutSet,
  encodePipeSet,
  encodeRelaySet,
  newSegment,
  OP,
  type Op,
  type RelayMode,
  type SegmentKeys,
} from './ops.ts'
import { createOpener, createSealer, MATERIAL_BYTES } from './ratchet.ts'
import type { HopTarget, RingOptions } from './ring.ts'

/** What one hop is told of the keys; the entry's own end counts as a hop. */
export interface HopMessage {
  readonly hop: number
  readonly op: Op
  readonly body: Uint8Array
}

/** Hops that stay set up as they are while the rest of the ring is replaced; the last of them computes. */
export interface KeptHops {
  readonly count: number
  /** Older frames may still be under way among them; nothing of those goes beyond. */
  readonly fromStep: number
  readonly maxRows: number
  /** What may still fill their queues, until the first answer shows that it is through. */
  readonly staleBytes: number
  /** To the first compute hop: it stays. */
  readonly sealer: SegmentSealer
}

export interface RingPlan {
  readonly messages: readonly HopMessage[]
  readonly sealer: SegmentSealer
  readonly opener: SegmentOpener
  readonly maxRows: number
  readonly maxContext: number
  readonly windowBytes: number
  readonly relayLayers: number
}

/** Keys for every segment and relay layer, what each hop is told of them, and the entry's own ends. */
export function planRing(
  context: HopContext,
  options: RingOptions,
  grants: readonly ServerMessage[],
  kept?: KeptHops,
): RingPlan {
  const { crypto, limits } = context
  const { hops, hiddenSize } = options
  const compute = hops.flatMap((hop, index) => (hop.role === 'compute' ? [index] : []))
  const first = compute[0] ?? 0
  const last = compute.at(-1) ?? 0
  const windowBytes = Math.min(limits.queueBytes, ...grants.map((grant) => grant.queueBytes))
  const room = Math.floor((windowBytes - limits.frameSpareBytes) / (4 * hiddenSize))
  const maxRows = Math.min(limits.maxRows, room, kept?.maxRows ?? limits.maxRows)
  if (!(maxRows >= 1)) throw new LlmNodeError('PEER_REFUSED', 'A hop grants too little room for one row.')
  const segments = Array.from({ length: compute.length + 1 }, () => newSegment(crypto.random))
  const layerKeys = hops.map(() => createSecret(crypto.random(MATERIAL_BYTES)))
  const copyOfLayer = (index: number) => createSecret(concatBytes(layerKeys[index]?.reveal() ?? new Uint8Array(0)))

  const messages = hops.flatMap((hop, index): HopMessage[] => {
    const at = compute.indexOf(index)
    const [segIn, segOut] = [segments[at], segments[at + 1]]
    if (index < (kept?.count ?? 0)) {
      if (kept === undefined || segOut === undefined || index !== kept.count - 1) return []
      return [{ hop: index, op: OP.outSet, body: encodeOutSet({ fromStep: kept.fromStep, segOut }) }]
    }
    if (at < 0 || segIn === undefined || segOut === undefined || hop.span === undefined) {
      const mode: RelayMode = index < first ? 'peel' : index > last ? 'add' : 'pass'
      const material = layerKeys[index] ?? createSecret(new Uint8Array(MATERIAL_BYTES))
      return [{ hop: index, op: OP.relaySet, body: encodeRelaySet({ mode, material }) }]
    }
    const setup = { hiddenSize, maxRows, span: hop.span, tail: index === last, longRope: options.longRope ?? false }
    return [{ hop: index, op: OP.pipeSet, body: encodePipeSet({ segIn, segOut, ...setup }) }]
  })
  const own = createSecret(crypto.random(MATERIAL_BYTES))
  messages.push({ hop: hops.length, op: OP.relaySet, body: encodeRelaySet({ mode: 'pass', material: own }) })
  own.wipe()

  // Innermost first when sealing, outermost first when opening: both times from the far relay to the near one.
  const front = hops.map((_, index) => index).filter((index) => index < first)
  const back = hops.map((_, index) => index).filter((index) => index > last)
  const openLayers = back.toReversed().map((index) => createOpener(copyOfLayer(index), 'r', crypto))
  const sealLayers = () => front.toReversed().map((index) => createSealer(copyOfLayer(index), 'r', crypto))
  const grant = { kinds: new Set([KIND.result, KIND.padding, KIND.cancel]), hiddenSize, maxRows, maxBytes: windowBytes }
  const plan = {
    messages,
    maxRows,
    windowBytes,
    relayLayers: Math.max(front.length, back.length),
    maxContext: Math.min(...compute.map((index) => grants[index]?.maxContext ?? 0)),
    sealer: kept?.sealer ?? createSegmentSealer(copyOf(segments[0]), sealLayers(), crypto),
    opener: createSegmentOpener(copyOf(segments.at(-1)), openLayers, grant, crypto),
  }
  for (const { material } of segments) material.wipe()
  for (const material of layerKeys) material.wipe()
  return plan
}

function copyOf(segment: SegmentKeys | undefined): SegmentKeys {
  if (segment === undefined) throw new LlmNodeError('INTERNAL', 'A ring without segments.')
  return copySegment(segment)
}

/** To all hops at once; each answer's time is a first measure of the round trip, by hop. `onWaiting`: who has not answered. */
export async function setUpHops(
  { clock }: HopContext,
  request: (message: HopMessage) => Promise<void>,
  messages: readonly HopMessage[],
  onWaiting: (hops: readonly number[]) => void,
): Promise<ReadonlyMap<number, number>> {
  const waiting = new Set(messages.map(({ hop }) => hop))
  onWaiting([...waiting])
  const times = messages.map(async (message) => {
    const startedMs = clock.monotonicMs()
    await request(message)
    message.body.fill(0)
    waiting.delete(message.hop)
    onWaiting([...waiting])
    return [message.hop, clock.monotonicMs() - startedMs] as const
  })
  return new Map(await Promise.all(times))
}

export function lastHop(hops: readonly HopTarget[]): HopTarget {
  const last = hops.at(-1)
  if (last === undefined) throw new LlmNodeError('BAD_INPUT', 'A ring needs a hop.')
  return last
}
