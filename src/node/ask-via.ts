import type { AskEvent, CheckedAskRequest } from '../api/types.ts'
import { utf8 } from '../base/bytes.ts'
import { LlmNodeError } from '../base/errors.ts'
import type { SwarmContact } from '../coverage/announce.ts'
import { type AskedProfile, type PeerPlace, type Profile, sameHands } from '../coverage/path.ts'
import type { HopTarget } from '../onion/ring.ts'
import { type AddressHint, parseAddressUri } from '../p2p/address.ts'
import { type AnswerRequest, readAnswerLines, signAnswerRequest } from './answer-messages.ts'
import type { NodeParts } from './parts.ts'
import { findPeer } from './ping.ts'

export type ViaParts = Pick<NodeParts, 'peer' | 'swarm' | 'onion' | 'privacy' | 'identity' | 'network'>

export interface ViaRequest extends CheckedAskRequest {
  /** An `.llm` address, or `llm://ADDRESS?a=MULTIADDR`: who is to generate. */
  readonly via: string
}

/** How long a node that has just come looks for the other, and for relays that it must have, or would like. */
const FIND_MS = 15_000
const WISHED_MS = 3_000

/**
 * Lets another node generate, and passes its answer on as it comes; this node needs no weights. Through two guards where
 * the profile says so: the other node then sees neither this node's address nor its keys, unless `named`. Throws
 * BAD_ADDRESS, BAD_INPUT, NO_RELAY, PEER_UNREACHABLE, PEER_REFUSED (its code in `meta.status`), HOP_TIMEOUT, ABORTED.
 */
export async function* askVia(
  parts: ViaParts,
  request: ViaRequest,
  run: { readonly signal: AbortSignal; readonly profile: AskedProfile },
): AsyncGenerator<AskEvent> {
  const { signal } = run
  const hint = parseAddressUri(request.via)
  const asked = request.profile ?? run.profile
  checkProfile(parts, hint, asked)
  const { contact, relays } = await findWay(parts, hint, { asked, signal })
  const relay = async (address: string): Promise<HopTarget> => ({
    role: 'relay',
    ...(await parts.swarm.contact(address, { signal })),
  })
  const [front, back] = relays ?? []
  const hops: HopTarget[] = [
    ...(front === undefined ? [] : [await relay(front.address)]),
    { role: 'answer', ...contact },
    ...(back === undefined ? [] : [await relay(back.address)]),
  ]
  const profile: Profile = relays !== undefined ? 'guarded' : asked === 'trusted' ? 'trusted' : 'direct'
  const circuit = await parts.onion.openAnswer(hops, { signal })
  try {
    const auth = request.named
      ? { auth: signAnswerRequest(circuit.exporter, { network: parts.network.version, ...identityOf(parts) }) }
      : {}
    const body = utf8(JSON.stringify({ ...wishesOf(request), ...auth }))
    yield* eventsOf(readAnswerLines(circuit.ask(body)), { address: hint.address, profile })
  } finally {
    circuit.close()
  }
}

function identityOf({ identity }: ViaParts) {
  return { addressKey: identity.addressKey, sign: (message: Uint8Array) => identity.sign(message) }
}

function checkProfile({ privacy, identity }: ViaParts, { address }: AddressHint, asked: AskedProfile): void {
  if (address === identity.address) throw new LlmNodeError('BAD_INPUT', 'This is the address of this node.')
  if (asked === 'local-only') {
    throw new LlmNodeError('BAD_INPUT', 'Under the profile local-only no other node is asked.', {
      hint: 'Leave --via out, or choose another profile.',
    })
  }
  if (asked === 'trusted' && !privacy.trusted.has(address)) {
    throw new LlmNodeError('BAD_INPUT', `${address} is not among the trusted addresses.`, {
      hint: `If you trust it: llm-node config set privacy.trusted, or choose another profile.`,
    })
  }
}

interface Way {
  readonly contact: SwarmContact
  /** Undefined: straight there. */
  readonly relays: readonly [PeerPlace, PeerPlace] | undefined
}

async function findWay(
  parts: ViaParts,
  hint: AddressHint,
  { asked, signal }: { asked: AskedProfile; signal: AbortSignal },
): Promise<Way> {
  const straight = asked === 'direct' || asked === 'trusted'
  // A place that is dialled to learn who is there knows at once who asks.
  const wary = straight ? hint : { ...hint, addrs: [] }
  const found = await findPeer(parts, wary, { signal, withinMs: FIND_MS }).catch((error: unknown) => {
    if (asked !== 'auto' || hint.addrs.length === 0 || signal.aborted) throw error
  })
  if (found === undefined) {
    const { contact } = await findPeer(parts, hint, { signal, withinMs: FIND_MS })
    return { contact, relays: undefined }
  }
  if (straight) return { contact: found.contact, relays: undefined }
  const waitMs = asked === 'guarded' ? FIND_MS : WISHED_MS
  const relays = await findRelays(parts, hint.address, AbortSignal.any([signal, AbortSignal.timeout(waitMs)]))
  if (relays === undefined && asked === 'guarded') {
    throw new LlmNodeError('NO_RELAY', 'There are no two relays between this node and the one that is asked.', {
      hint: 'Wait for other nodes, or accept that it sees who asks: --profile direct.',
    })
  }
  return { contact: found.contact, relays }
}

/** Two guards that are neither one person's nor the answering node's. Waits a little: adverts may still be coming. */
async function findRelays(
  { swarm, privacy }: ViaParts,
  target: string,
  deadline: AbortSignal,
): Promise<[PeerPlace, PeerPlace] | undefined> {
  for (;;) {
    const changed = swarm.nextChange(deadline)
    const place = privacy.placeOf(target)
    const guards = privacy.guards({ computing: true }).filter((guard) => !sameHands(guard, place, privacy))
    for (const front of guards) {
      const back = guards.find((other) => !sameHands(front, other, privacy))
      if (back !== undefined) return [front, back]
    }
    if (deadline.aborted) return undefined
    await changed
  }
}

/** Only what the other node needs to know. */
function wishesOf(request: ViaRequest): AnswerRequest {
  const { model, prompt, messages, maxTokens, temperature, topK, topP, minP, seed, stop } = request
  return { model, prompt, messages, maxTokens, temperature, topK, topP, minP, seed, stop }
}

async function* eventsOf(
  lines: ReturnType<typeof readAnswerLines>,
  { address, profile }: { address: string; profile: Profile },
): AsyncGenerator<AskEvent> {
  let text = ''
  const startedMs = performance.now()
  for await (const line of lines) {
    if ('delta' in line) {
      text += line.delta
      yield { type: 'text', text: line.delta }
      continue
    }
    const { completionTokens, ...done } = line.done
    const seconds = (performance.now() - startedMs) / 1_000
    yield {
      type: 'done',
      result: {
        ...{
          ...done,
          text,
          profile,
          tokens: [],
          hops: [],
          cachedTokens: 0,
          failovers: 0,
          changedAt: null,
          audit: null,
        },
        // The answering node; whom it asks in turn, it does not say.
        ...{ seenBy: 1, drafted: 0, accepted: 0, estimate: { solo: null, split: null } },
        tokensPerSecond: completionTokens < 2 ? null : completionTokens / seconds,
        via: { address, tokens: completionTokens },
      },
    }
    return
  }
  throw new LlmNodeError('CIRCUIT_BROKEN', 'The answer ended before it was complete.', { hint: 'Ask again.' })
}
