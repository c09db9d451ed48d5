import { equalBytes } from '../base/bytes.ts'
import { assertInput, LlmNodeError, toLlmNodeError } from '../base/errors.ts'
import { createEntryCircuit, type EntryCircuit } from './circuit.ts'
import { isZero, KEY_BYTES } from './crypto.ts'
import type { ClientMessage, ServerMessage } from './handshake-messages.ts'
import type { HopContext } from './hop-context.ts'
import type { HopTarget, Ring, RingCall, RingChange, RingOptions } from './ring.ts'
import { createRingEnd, type OwnedRingEnd, type RingEnds } from './ring-end.ts'
import { hopError } from './ring-errors.ts'
import { type HopMessage, type KeptHops, lastHop, planRing, setUpHops } from './ring-plan.ts'
import { createRingSession, type RingSession } from './ring-session.ts'

/** A circuit that leads around the ring; no hop has keys for data yet, and no KV is reserved anywhere. */
export interface PreparedRing {
  /** It can no longer be opened. */
  readonly ended: boolean
  /** Proves the way there and back, so that nothing on it counts as half-open. Throws HOP_TIMEOUT, CIRCUIT_BROKEN. */
  confirm(signal: AbortSignal): Promise<void>
  /** Gives every hop its keys: reserves KV on each compute hop. Once. Errors as in prepareRing. */
  open(call: RingCall): Promise<Ring>
  close(): void
}

export interface RingBuildDeps {
  readonly ends: RingEnds
  /** Aborted when this node stops. */
  readonly stopped: AbortSignal
  /** Hears of every ring, also of those that take a broken one's place. */
  onRing(ring: RingSession): void
}

/**
 * Builds hop by hop, then to this node itself (protocol.md §4). Throws PEER_UNREACHABLE, PEER_REFUSED, AUTH_FAILED,
 * HOP_TIMEOUT, CIRCUIT_BROKEN, BAD_INPUT or ABORTED; nothing is left behind then.
 */
export async function prepareRing(
  context: HopContext,
  deps: RingBuildDeps,
  options: RingOptions,
  call: RingCall,
): Promise<PreparedRing> {
  checkOptions(context, options)
  const build = new RingBuild(context, deps, options)
  await build.extend(call)
  return build
}

class RingBuild implements PreparedRing {
  readonly #context: HopContext
  readonly #deps: RingBuildDeps
  readonly #circuit: EntryCircuit
  readonly #builtMs: number
  #options: RingOptions
  #grants: ServerMessage[] = []
  #end: OwnedRingEnd | undefined
  #session: RingSession | undefined

  constructor(context: HopContext, deps: RingBuildDeps, options: RingOptions) {
    this.#context = context
    this.#deps = deps
    this.#options = options
    this.#builtMs = context.clock.monotonicMs()
    this.#circuit = createEntryCircuit(context, options.hops, {
      onBroken: (error) => this.#session?.onBroken(error) ?? false,
      onEnded: (error) => {
        this.#session?.onCircuitEnd(error)
        this.#dropEnd()
      },
    })
  }

  get ended(): boolean {
    return this.#circuit.ended !== undefined
  }

  close(): void {
    this.#circuit.end(new LlmNodeError('ABORTED', 'Stopped on request.'))
  }

  async confirm(signal: AbortSignal): Promise<void> {
    await this.#circuit.ping(this.#options.hops.length, { signal, timeoutMs: this.#context.limits.opMs })
  }

  /** Through the hops that are not on the circuit yet, and back to this node. */
  async extend({ signal, onWaiting }: RingCall): Promise<void> {
    const { hops } = this.#options
    try {
      for (let index = this.#grants.length; index < hops.length; index++) {
        onWaiting?.(index === 0 ? [0] : [index - 1, index])
        await this.#addHop(index, signal)
      }
      onWaiting?.([hops.length - 1])
      await this.#closeRing(signal)
    } catch (error) {
      throw this.#ended(error)
    }
  }

  async open(call: RingCall): Promise<Ring> {
    try {
      return await this.#setUp(call)
    } catch (error) {
      throw this.#ended(error)
    }
  }

  #ended(error: unknown): LlmNodeError {
    const reason = toLlmNodeError(error)
    this.#circuit.end(reason)
    return reason
  }

  async #addHop(index: number, signal: AbortSignal): Promise<void> {
    const hop = this.#options.hops[index]
    if (hop === undefined) throw new LlmNodeError('INTERNAL', 'There is no such hop.')
    const message = messageFor(hop, this.#context, this.#options)
    const grant =
      index === 0
        ? await this.#circuit.connect(hop, message, signal)
        : await this.#circuit.extend(hop, message, { signal })
    checkGrant(grant, index, this.#options)
    this.#grants.push(grant)
  }

  /** The last hop extends to this node; the stream that comes in is recognised by (ID, X). */
  async #closeRing(signal: AbortSignal): Promise<void> {
    const { transport } = this.#context
    const { hops } = this.#options
    const last = lastHop(hops)
    const owned = createRingEnd(this.#context, last.peerId, {
      onData: (frame) => this.#session?.onReturn(frame),
      onEnd: () => {
        if (this.#session !== undefined) return this.#session.onReturnEnd()
        // As in a ring that stands: a TRUNCATED is on its way, if a hop has gone.
        const { timers, limits } = this.#context
        timers.after(limits.truncatedWaitMs, () => this.#circuit.end(hopError(hops, hops.length, 'CIRCUIT_BROKEN')))
      },
    })
    this.#end = owned
    const { end } = owned
    const onionKey = end.onionKeys[0]?.publicKey
    if (onionKey === undefined) throw new LlmNodeError('INTERNAL', 'The ring has no key of its own.')
    try {
      await connectTo(this.#context, last, signal)
      const self = {
        peerId: transport.self.peerId,
        addrs: transport.self.addrs(),
        addressKey: end.addressKey,
        onionKey,
      }
      const message = messageFor(undefined, this.#context, this.#options)
      const onCreate = (publicX: Uint8Array) => this.#deps.ends.add(publicX, end)
      checkGrant(await this.#circuit.extend(self, message, { signal, onCreate }), hops.length, this.#options)
    } finally {
      owned.wipe()
    }
  }

  async #setUp({ signal, onWaiting }: RingCall, kept?: KeptHops): Promise<RingSession> {
    const { clock, limits } = this.#context
    const { messages, ...plan } = planRing(this.#context, this.#options, this.#grants, kept)
    const request = ({ hop, op, body }: HopMessage) =>
      this.#circuit.request(hop, op, body, { signal, timeoutMs: limits.opMs })
    // Those behind a hop that is silent are not heard either.
    const nearest = (waiting: readonly number[]) => onWaiting?.(waiting.length === 0 ? [] : [Math.min(...waiting)])
    const times = await setUpHops(this.#context, request, messages, nearest)
      .then((answers) => {
        if (this.#circuit.ended !== undefined) throw this.#circuit.ended
        return answers
      })
      .catch((error: unknown) => {
        plan.sealer.wipe()
        plan.opener.wipe()
        throw error
      })
    const { hops, hiddenSize, mendable = false, cadenceMs } = this.#options
    const ageS = Math.ceil((clock.monotonicMs() - this.#builtMs) / 1_000)
    const session = createRingSession(this.#context, {
      ...plan,
      hops,
      hiddenSize,
      lifeS: Math.min(...this.#grants.map((grant) => grant.lifeS)) - ageS,
      firstStep: kept?.fromStep ?? 0,
      staleBytes: kept?.staleBytes ?? 0,
      cadenceMs,
      circuit: this.#circuit,
      // A kept hop's is measured when it is asked for the first time.
      rttMs: Array.from({ length: hops.length + 1 }, (_, hop) => times.get(hop) ?? 0),
      closeReturn: () => this.#dropEnd(),
      ...(mendable ? { mend: (change, broken, call) => this.#mend(change, broken, call) } : {}),
    })
    this.#session = session
    this.#deps.onRing(session)
    return session
  }

  async #mend({ keep, hops: fresh }: RingChange, broken: KeptHops, wanted: AbortSignal): Promise<Ring> {
    const signal = AbortSignal.any([wanted, this.#deps.stopped])
    const before = this.#options.hops
    const hops = [...before.slice(0, keep), ...fresh]
    const isTail = (all: readonly HopTarget[]) => !all.slice(keep).some(({ role }) => role === 'compute')
    try {
      checkOptions(this.#context, { ...this.#options, hops })
      assertInput(before[keep - 1]?.role === 'compute', 'The last hop that is kept has to compute.')
      assertInput(isTail(before) === isTail(hops), 'The last hop that is kept would become another one.')
      this.#dropEnd()
      this.#session = undefined
      await this.#circuit.truncate(keep, hops, { signal, timeoutMs: this.#context.limits.opMs })
      this.#options = { ...this.#options, hops }
      this.#grants = this.#grants.slice(0, keep)
      await this.extend({ signal })
      return await this.#setUp({ signal }, broken)
    } catch (error) {
      broken.sealer.wipe()
      throw this.#ended(error)
    }
  }

  #dropEnd(): void {
    if (this.#end === undefined) return
    this.#deps.ends.remove(this.#end.end)
    this.#end.close()
    this.#end = undefined
  }
}

/** Behind NAT the last hop can only use a connection that goes out from here. Without one it may still dial. */
async function connectTo({ transport, limits, timers }: HopContext, target: HopTarget, signal: AbortSignal) {
  if (transport.isConnected(target.peerId)) return
  const timeout = new AbortController()
  const cancel = timers.after(limits.connectMs, () => timeout.abort())
  await transport.connect(target, { signal: AbortSignal.any([signal, timeout.signal]) }).catch(() => {})
  cancel()
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
