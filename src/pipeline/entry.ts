import { fromHex } from '../base/bytes.ts'
import { isLlmNodeError, LlmNodeError } from '../base/errors.ts'
import { onionLimits, pipelineLimits } from '../base/limits.ts'
import { type Span, spanLength } from '../base/span.ts'
import type { LayerHolder } from '../coverage/map.ts'
import { type AskedProfile, findGuardedRoute, type PeerPlace, type Profile } from '../coverage/path.ts'
import { findRoute, type Route } from '../coverage/route.ts'
import type { ModelSpec } from '../model/spec.ts'
import type { HopTarget, Ring, RingCall, RingOptions } from '../onion/ring.ts'
import type { SpanRunner } from '../shard/runner.ts'
import { type Chain, createLocalChain, createRingChain, joinChains } from './chain.ts'
import type { Exclusions } from './exclusions.ts'
import { type ContactDeps, contactsOf } from './hop-contacts.ts'
import { TOKEN_MS } from './measure.ts'
import { namingOwnLayers } from './own-layers.ts'

/** What the entry knows of one model it can ask: the ends are elsewhere, these are the layers. */
export interface EntryModel {
  readonly name: string
  /** 32 bytes. */
  readonly modelId: Uint8Array
  readonly spec: ModelSpec
  readonly recipe: string
  /** Hexadecimal: the class in which this process computes. */
  readonly numericsClass: string
  /** A rule of exactness does not hold in this process (shard/exactness-rules.ts): nothing it computes is promised. */
  readonly inexact?: boolean | undefined
  /** Layers in this process, if any. */
  readonly runner: SpanRunner | undefined
  /** Measured ms per layer of a decode step in this process; null without layers. */
  readonly localDecodeMs: number | null
  /** Measured ms of embedding and head for one token in this process; null: not measured. */
  readonly endsMs: number | null
}

export interface EntryDeps extends ContactDeps {
  /** In [0, 1), for spreading over equal routes; default Math.random. */
  random?(): number
  /** Who serves layers of a model in a recipe, as known now. */
  holders(modelId: Uint8Array, recipe: string): readonly LayerHolder[]
  openRing(options: RingOptions, call: RingCall): Promise<Ring>
  /** Builds a circuit for such a ring in the background; openRing then has it. */
  prepareRing?(options: RingOptions): void
  /** Resolves when something about the holders has changed, or with the signal. */
  nextChange?(signal: AbortSignal): Promise<void>
  /** What failed lately, shared by the generations of a node. Default: each starts without. */
  readonly exclusions?: Exclusions
}

/** What a chain is to be able to do. */
export interface ChainRequest {
  /** Tokens that prompt and answer may have. */
  readonly maxContext: number
  /** More than that when there is plenty of room: for a chat that will go on. */
  readonly roomyContext?: number | undefined
  /** Run all layers in this process. */
  readonly solo: boolean
  /** Let the swarm compute all layers, also those that this process holds. */
  readonly swarm?: boolean | undefined
  /** Only hops of this class (hexadecimal), so that an answer goes on as it began. */
  readonly numericsClass?: string | undefined
  /** Who may see what; default `direct`. */
  readonly profile?: AskedProfile | undefined
  /** The long factors of a longrope model (engine.md §1). */
  readonly longRope?: boolean | undefined
  /** Ms that a link counts more; null: this node (exclusions.ts). */
  readonly penaltyMs?: ((from: string | null, to: string | null) => number) | undefined
  /** Addresses that any of these penalties concern. */
  readonly penalised?: ReadonlySet<string> | undefined
  /** Addresses that may not compute. */
  readonly excluded?: ReadonlySet<string> | undefined
  /** In [0, 1): spreads answers over routes that are about equally fast (coverage/route.ts). */
  readonly random?: (() => number) | undefined
}

/** Which layers are computed where. */
export interface ChainPlan {
  readonly leading: Span | undefined
  /** undefined: all layers are here. */
  readonly route: Route | undefined
  readonly trailing: Span | undefined
  readonly maxContext: number
  readonly longRope: boolean
  /** In force: never weaker than what was asked for. */
  readonly profile: Profile
  /** Relays before the first and after the last compute hop, by address. */
  readonly ends: { readonly front: string; readonly back: string } | undefined
  /** Every part computes in this process's numerics class. */
  readonly exact: boolean
  /** The one class of the ring; undefined: several, or no ring. */
  readonly numericsClass: string | undefined
}

export interface OpenedChain {
  readonly chain: Chain
  readonly plan: ChainPlan
  /** The answer is byte-identical to one process: every part computes in this process's numerics class. */
  readonly exact: boolean
  /** Ms of one token, added up from what was measured of its parts; null: not all of them have been. */
  readonly partsMs: number | null
}

/**
 * Opens a chain: layers held here at either end stay here, a ring carries the rest. Throws COVERAGE_GAP,
 * COVERAGE_FRAGMENTED, CONTEXT_TOO_LONG and what building a circuit throws.
 */
export function openChain(
  model: EntryModel,
  request: ChainRequest & { signal: AbortSignal },
  deps: EntryDeps,
): Promise<OpenedChain> {
  return openPlan(model, planChain(model, request, deps), deps, request)
}

/** Throws CONTEXT_TOO_LONG when no chain of this model can hold so many tokens, prompt and answer together. */
export function assertFits({ name, spec }: Pick<EntryModel, 'name' | 'spec'>, maxContext: number): void {
  if (maxContext <= spec.maxContext) return
  throw new LlmNodeError(
    'CONTEXT_TOO_LONG',
    `Prompt and answer would take ${maxContext} tokens; ${name} holds ${spec.maxContext}.`,
    { hint: 'Shorten the prompt, or ask for fewer tokens.' },
  )
}

interface PlanDeps extends Pick<EntryDeps, 'holders' | 'privacy'> {}

/** Throws COVERAGE_GAP, COVERAGE_FRAGMENTED, NO_RELAY, CONTEXT_TOO_LONG, NOT_SET_UP. Opens nothing. */
export function planChain(model: EntryModel, request: ChainRequest, deps: PlanDeps): ChainPlan {
  const { maxContext } = request
  const whole: Span = { start: 0, end: model.spec.nLayers }
  assertFits(model, maxContext)
  const held = request.swarm === true ? undefined : model.runner?.span
  const { leading, ring, trailing } =
    request.solo || request.profile === 'local-only' ? divideSolo(model, whole) : divide(held, whole)
  const here = leading !== undefined || trailing !== undefined ? model.runner : undefined
  const local = {
    leading,
    trailing,
    exact: model.inexact !== true,
    longRope: request.longRope === true,
    numericsClass: undefined,
    profile: 'local-only' as const,
    ends: undefined,
  }
  if (ring === undefined) {
    return { ...local, route: undefined, maxContext: roomy(request, model, here?.freeKvTokens ?? 0) }
  }
  const { route, exact, numericsClass, profile, ends } = namingOwnLayers(held, model.name, () =>
    planRoute(model, ring, request, deps),
  )
  const free = Math.min(
    here?.freeKvTokens ?? Number.POSITIVE_INFINITY,
    ...route.hops.map(({ holder }) => holder.freeKvTokens),
  )
  return { ...local, route, exact, numericsClass, profile, ends, maxContext: roomy(request, model, free) }
}

/** The wished context as far as it leaves half of what is free to others. */
function roomy({ maxContext, roomyContext = 0 }: ChainRequest, { spec }: EntryModel, freeTokens: number): number {
  return Math.max(maxContext, Math.min(roomyContext, spec.maxContext, Math.floor(freeTokens / 2)))
}

/** Throws what building a circuit throws. Hops are counted as in stopsOf. */
export async function openPlan(
  model: EntryModel,
  plan: ChainPlan,
  deps: EntryDeps,
  call: RingCall,
): Promise<OpenedChain> {
  const { leading, route, trailing, exact } = plan
  const ring = route === undefined ? undefined : await openRing(model, { ...plan, route }, deps, call)
  const parts: Chain[] = []
  try {
    if (leading !== undefined) parts.push(localPart(model, leading, plan))
    if (ring !== undefined) parts.push(ring)
    if (trailing !== undefined) parts.push(localPart(model, trailing, plan))
  } catch (error) {
    await Promise.all([ring, ...parts].map((part) => part?.close()))
    throw error
  }
  const [first, ...rest] = parts
  if (first === undefined) throw new LlmNodeError('INTERNAL', 'A chain has no part.')
  const chain = joinChains([first, ...rest], model.spec.hiddenSize)
  const { nLayers } = model.spec
  const ringLayers = route === undefined ? 0 : route.hops.reduce((sum, { span }) => sum + spanLength(span), 0)
  const hereMs = model.localDecodeMs === null ? null : model.localDecodeMs * (nLayers - ringLayers)
  const endsMs = (model.endsMs ?? 0) + TOKEN_MS
  if (route !== undefined) return { chain, plan, exact, partsMs: route.decodeMs + (hereMs ?? 0) + endsMs }
  return { chain, plan, exact, partsMs: hereMs === null ? null : hereMs + endsMs }
}

/** Throws as openChain would when layers are missing in the swarm; opens nothing. */
export function requireCoverage(model: EntryModel, deps: PlanDeps, profile?: AskedProfile): void {
  planChain(model, { maxContext: 1, solo: false, profile }, deps)
}

function divideSolo(model: EntryModel, whole: Span): Divided {
  const held = model.runner?.span
  if (held === undefined || held.start !== 0 || held.end !== whole.end) {
    throw new LlmNodeError('NOT_SET_UP', `This node does not hold all ${whole.end} layers of ${model.name}.`, {
      hint: 'Ask the swarm instead (without --solo), or fetch them: llm-node setup --layers all',
    })
  }
  return { leading: whole, ring: undefined, trailing: undefined }
}

interface Divided {
  readonly leading: Span | undefined
  readonly ring: Span | undefined
  readonly trailing: Span | undefined
}

/** What stays here at either end, and the middle for the ring. Held layers in the middle are left to others. */
function divide(held: Span | undefined, whole: Span): Divided {
  const none = { leading: undefined, ring: undefined, trailing: undefined }
  if (held === undefined) return { ...none, ring: whole }
  if (held.start === 0 && held.end >= whole.end) return { ...none, leading: whole }
  if (held.start === 0) return { ...none, leading: held, ring: { start: held.end, end: whole.end } }
  if (held.end === whole.end) return { ...none, ring: { start: 0, end: held.start }, trailing: held }
  return { ...none, ring: whole }
}

interface PlannedRoute {
  readonly route: Route
  readonly exact: boolean
  readonly numericsClass: string | undefined
  readonly profile: Profile
  readonly ends: ChainPlan['ends']
}

/**
 * `auto` is guarded where relays without layers make that possible, otherwise direct: a replica that stood at an end would
 * be missing when a hop fails. Every other profile is itself or an error.
 */
function planRoute(model: EntryModel, span: Span, wanted: ChainRequest, deps: PlanDeps): PlannedRoute {
  const { profile = 'direct' } = wanted
  if (profile === 'trusted') return planTrusted(model, span, wanted, deps)
  if (profile !== 'auto') return planClasses(model, span, wanted, { ...deps, profile })
  try {
    return planClasses(model, span, wanted, { ...deps, profile: 'guarded', sparing: true })
  } catch (error) {
    if (!isLlmNodeError(error, 'NO_RELAY')) throw error
    return planClasses(model, span, wanted, { ...deps, profile: 'direct' })
  }
}

function planTrusted(model: EntryModel, span: Span, wanted: ChainRequest, deps: PlanDeps): PlannedRoute {
  const listed = deps.privacy?.trusted ?? new Set<string>()
  const holders: PlanDeps['holders'] = (modelId, recipe) =>
    deps.holders(modelId, recipe).filter(({ address }) => listed.has(address))
  try {
    return planClasses(model, span, wanted, { ...deps, holders, profile: 'trusted' })
  } catch (error) {
    if (!isLlmNodeError(error, 'COVERAGE_GAP')) throw error
    const message = error.message.replace('by nobody', `by none of the ${listed.size} addresses that you trust`)
    const hint = 'Add an address to privacy.trusted in config.json, or hold these layers yourself: llm-node setup'
    throw new LlmNodeError('COVERAGE_GAP', message, { hint, meta: error.meta, cause: error })
  }
}

interface ProfileDeps extends PlanDeps {
  readonly profile: Profile
  /** Take no relay that holds layers. */
  readonly sparing?: boolean
}

/** One numerics class on the whole ring: this process's own where it reaches, otherwise the best other one. */
function planClasses(model: EntryModel, span: Span, wanted: ChainRequest, deps: ProfileDeps): PlannedRoute {
  const { profile } = deps
  const all = deps.holders(model.modelId, model.recipe)
  const classes =
    wanted.numericsClass === undefined
      ? [...new Set([model.numericsClass, ...all.map((holder) => holder.numericsClass)])]
      : [wanted.numericsClass]
  const find = (holders: readonly LayerHolder[]) => findPath(model, holders, { ...wanted, span }, deps)
  let failure: unknown
  for (const numericsClass of classes) {
    try {
      const path = find(all.filter((holder) => holder.numericsClass === numericsClass))
      return { ...path, exact: numericsClass === model.numericsClass, numericsClass, profile }
    } catch (error) {
      failure ??= error
    }
  }
  // Only classes together may cover everything: then it works, but not exactly. What is missing is said over all.
  const mixed = classes.length > 1 ? find(all) : undefined
  if (mixed === undefined) throw failure
  return { ...mixed, exact: false, numericsClass: undefined, profile }
}

function findPath(
  model: EntryModel,
  holders: readonly LayerHolder[],
  { span, maxContext, penaltyMs, penalised, excluded, random }: ChainRequest & { span: Span },
  { profile, privacy, sparing = false }: ProfileDeps,
): Pick<PlannedRoute, 'route' | 'ends'> {
  const wishes = { penaltyMs, penalised, excluded, random }
  const request = { span, maxContext, maxHops: onionLimits.computeHops, modelName: model.name, ...wishes }
  if (profile !== 'guarded') return { route: findRoute(holders, request), ends: undefined }
  const rules = privacy ?? { guards: () => [], placeOf: unknownPlace, mayShare: false }
  const { route, front, back } = findGuardedRoute(holders, {
    ...request,
    guards: rules.guards({ computing: !sparing }),
    placeOf: (address) => rules.placeOf(address),
    mayShare: rules.mayShare,
  })
  return { route, ends: { front, back } }
}

function unknownPlace(address: string): PeerPlace {
  return { address, family: [], networks: [] }
}

const ANY_CLASS = '00'.repeat(32)

/** The hops of a plan's ring in order, relays included, by address. */
export function stopsOf({ route, ends }: Pick<ChainPlan, 'route' | 'ends'>): readonly string[] {
  const compute = route?.hops.map(({ holder }) => holder.address) ?? []
  return ends === undefined ? compute : [ends.front, ...compute, ends.back]
}

/**
 * Builds a circuit for the next chat ahead, over the way that such a chat would take now. When it begins, its way is
 * planned anew, and the circuit serves only if that is the same. Never throws.
 */
export async function prepareChain(model: EntryModel, request: ChainRequest, deps: EntryDeps): Promise<void> {
  if (deps.prepareRing === undefined) return
  try {
    const plan = planChain(model, request, deps)
    if (plan.route === undefined) return
    const signal = AbortSignal.timeout(onionLimits.readyMs)
    deps.prepareRing(await ringOptionsOf(model, { ...plan, route: plan.route }, deps, signal))
  } catch {
    // The next ask meets the same trouble and says it.
  }
}

async function openRing(
  model: EntryModel,
  plan: ChainPlan & { route: Route },
  deps: EntryDeps,
  call: RingCall,
): Promise<Chain> {
  const { route } = plan
  const ring = await deps.openRing(await ringOptionsOf(model, plan, deps, call.signal), call)
  return createRingChain(ring, (index) => {
    const hop = route.hops[index]
    if (hop === undefined) throw new LlmNodeError('INTERNAL', 'A hop has no holder.')
    const { span, holder, linkMs, reason } = hop
    return { span, address: holder.address, ms: holder.decodeMs * spanLength(span), linkMs, reason }
  })
}

/** The plan's hops with what their contact records say. Throws PEER_UNREACHABLE, PEER_REFUSED. */
async function ringOptionsOf(
  model: EntryModel,
  plan: ChainPlan & { route: Route },
  deps: EntryDeps,
  signal: AbortSignal,
): Promise<RingOptions> {
  const { route, ends, maxContext, numericsClass, longRope } = plan
  const stops = stopsOf(plan)
  const contacts = await contactsOf(stops, deps, { distinct: ends !== undefined, signal })
  const before = ends === undefined ? 0 : 1
  const hops = contacts.map((contact, index): HopTarget => {
    const span = route.hops[index - before]?.span
    return span === undefined ? { role: 'relay', ...contact } : { role: 'compute', span, ...contact }
  })
  return {
    hops,
    modelId: model.modelId,
    hiddenSize: model.spec.hiddenSize,
    maxContext,
    longRope,
    numericsClass: fromHex(numericsClass ?? ANY_CLASS),
    ...(deps.privacy?.cadenceMs === undefined ? {} : { cadenceMs: deps.privacy.cadenceMs }),
  }
}

function localPart(model: EntryModel, span: Span, { maxContext, longRope, route }: ChainPlan): Chain {
  if (model.runner === undefined) throw new LlmNodeError('INTERNAL', 'No layers are held here.')
  const session = model.runner.openSession({ span, maxContext, longRope, local: route === undefined })
  return createLocalChain(session, model.spec.hiddenSize, pipelineLimits.prefillRows)
}
