import { fromHex } from '../base/bytes.ts'
import { isLlmNodeError, LlmNodeError } from '../base/errors.ts'
import { onionLimits, pipelineLimits } from '../base/limits.ts'
import { type Span, spanLength } from '../base/span.ts'
import type { LayerHolder } from '../coverage/map.ts'
import { findRoute, type Route } from '../coverage/route.ts'
import type { ModelSpec } from '../model/spec.ts'
import type { HopTarget, Ring, RingOptions } from '../onion/ring.ts'
import type { SpanRunner } from '../shard/runner.ts'
import { type Chain, createLocalChain, createRingChain, joinChains } from './chain.ts'
import type { Exclusions } from './exclusions.ts'

/** What the entry knows of one model it can ask: the ends are elsewhere, these are the layers. */
export interface EntryModel {
  readonly name: string
  /** 32 bytes. */
  readonly modelId: Uint8Array
  readonly spec: ModelSpec
  readonly recipe: string
  /** Hexadecimal: the class in which this process computes. */
  readonly numericsClass: string
  /** Layers in this process, if any. */
  readonly runner: SpanRunner | undefined
  /** Measured ms per layer of a decode step in this process; null without layers. */
  readonly localDecodeMs: number | null
}

/** Where a hop is reached, from its signed contact record. */
export interface HopContact {
  readonly addressKey: Uint8Array
  readonly onionKey: Uint8Array
  readonly peerId: string
  readonly addrs: readonly string[]
}

export interface EntryDeps {
  /** Who serves layers of a model in a recipe, as known now. */
  holders(modelId: Uint8Array, recipe: string): readonly LayerHolder[]
  /** Throws PEER_UNREACHABLE when the record cannot be had. */
  contact(address: string, options: { signal: AbortSignal }): Promise<HopContact>
  openRing(options: RingOptions, run: { signal: AbortSignal }): Promise<Ring>
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
  /** Ms that a link counts more; null: this node (exclusions.ts). */
  readonly penaltyMs?: ((from: string | null, to: string | null) => number) | undefined
}

/** Which layers are computed where. */
export interface ChainPlan {
  readonly leading: Span | undefined
  /** undefined: all layers are here. */
  readonly route: Route | undefined
  readonly trailing: Span | undefined
  readonly maxContext: number
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
  /** Tokens per second: alone (null when this node cannot hold the model), and over this chain. Estimates. */
  readonly estimate: { readonly solo: number | null; readonly split: number | null }
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
  return openPlan(model, planChain(model, request, deps), deps, request.signal)
}

/** Throws COVERAGE_GAP, COVERAGE_FRAGMENTED, CONTEXT_TOO_LONG, NOT_SET_UP. Opens nothing. */
export function planChain(model: EntryModel, request: ChainRequest, deps: Pick<EntryDeps, 'holders'>): ChainPlan {
  const { maxContext } = request
  const whole: Span = { start: 0, end: model.spec.nLayers }
  if (maxContext > model.spec.maxContext) {
    throw new LlmNodeError(
      'CONTEXT_TOO_LONG',
      `Prompt and answer would take ${maxContext} tokens; ${model.name} holds ${model.spec.maxContext}.`,
      { hint: 'Shorten the prompt, or ask for fewer tokens.' },
    )
  }
  const held = request.swarm === true ? undefined : model.runner?.span
  const { leading, ring, trailing } = request.solo ? divideSolo(model, whole) : divide(held, whole)
  const here = leading !== undefined || trailing !== undefined ? model.runner : undefined
  const local = { leading, trailing, exact: true, numericsClass: undefined }
  if (ring === undefined) {
    return { ...local, route: undefined, maxContext: roomy(request, model, here?.freeKvTokens ?? 0) }
  }
  const { route, exact, numericsClass } = planRoute(model, ring, request, deps)
  const free = Math.min(
    here?.freeKvTokens ?? Number.POSITIVE_INFINITY,
    ...route.hops.map(({ holder }) => holder.freeKvTokens),
  )
  return { ...local, route, exact, numericsClass, maxContext: roomy(request, model, free) }
}

/** The wished context as far as it leaves half of what is free to others. */
function roomy({ maxContext, roomyContext = 0 }: ChainRequest, { spec }: EntryModel, freeTokens: number): number {
  return Math.max(maxContext, Math.min(roomyContext, spec.maxContext, Math.floor(freeTokens / 2)))
}

/** Throws what building a circuit throws. */
export async function openPlan(
  model: EntryModel,
  plan: ChainPlan,
  deps: EntryDeps,
  signal: AbortSignal,
): Promise<OpenedChain> {
  const { leading, route, trailing, exact } = plan
  const ring = route === undefined ? undefined : await openRing(model, { ...plan, route }, deps, signal)
  const parts: Chain[] = []
  try {
    if (leading !== undefined) parts.push(localPart(model, leading, plan.maxContext))
    if (ring !== undefined) parts.push(ring)
    if (trailing !== undefined) parts.push(localPart(model, trailing, plan.maxContext))
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
  if (route !== undefined) {
    return { chain, plan, exact, estimate: { solo: null, split: 1000 / (route.decodeMs + (hereMs ?? 0)) } }
  }
  return { chain, plan, exact, estimate: { solo: hereMs === null ? null : 1000 / hereMs, split: null } }
}

/** Throws as openChain would when layers are missing in the swarm; opens nothing. */
export function requireCoverage(model: EntryModel, deps: Pick<EntryDeps, 'holders'>): void {
  planChain(model, { maxContext: 1, solo: false }, deps)
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

/** One numerics class on the whole ring: this process's own where it reaches, otherwise the best other one. */
function planRoute(
  model: EntryModel,
  span: Span,
  wanted: ChainRequest,
  deps: Pick<EntryDeps, 'holders'>,
): { route: Route; exact: boolean; numericsClass: string | undefined } {
  const all = deps.holders(model.modelId, model.recipe)
  const { maxContext, penaltyMs } = wanted
  const request = { span, maxContext, maxHops: onionLimits.computeHops, modelName: model.name, penaltyMs }
  const classes =
    wanted.numericsClass === undefined
      ? [...new Set([model.numericsClass, ...all.map((holder) => holder.numericsClass)])]
      : [wanted.numericsClass]
  let failure: unknown
  for (const numericsClass of classes) {
    try {
      const route = findRoute(
        all.filter((holder) => holder.numericsClass === numericsClass),
        request,
      )
      return { route, exact: numericsClass === model.numericsClass, numericsClass }
    } catch (error) {
      failure ??= error
    }
  }
  // Only classes together may cover everything: then it works, but not exactly. What is missing is said over all.
  const mixed = classes.length > 1 ? findRoute(all, request) : undefined
  if (mixed === undefined) throw failure
  return { route: mixed, exact: false, numericsClass: undefined }
}

const ANY_CLASS = '00'.repeat(32)

async function openRing(
  model: EntryModel,
  { route, maxContext, numericsClass }: ChainPlan & { route: Route },
  deps: EntryDeps,
  signal: AbortSignal,
): Promise<Chain> {
  const contacts = await Promise.all(route.hops.map(({ holder }) => contactOf(holder.address, deps, signal)))
  const hops = route.hops.map(({ span }, index): HopTarget => {
    const contact = contacts[index]
    if (contact === undefined) throw new LlmNodeError('INTERNAL', 'A hop has no contact.')
    return { role: 'compute', span, ...contact }
  })
  const ring = await deps.openRing(
    {
      hops,
      modelId: model.modelId,
      hiddenSize: model.spec.hiddenSize,
      maxContext,
      numericsClass: fromHex(numericsClass ?? ANY_CLASS),
    },
    { signal },
  )
  return createRingChain(ring, (index) => {
    const hop = route.hops[index]
    if (hop === undefined) throw new LlmNodeError('INTERNAL', 'A hop has no holder.')
    return { span: hop.span, address: hop.holder.address, ms: hop.holder.decodeMs * spanLength(hop.span) }
  })
}

/** The error says whose record is missing, so that the next route leaves this peer out. */
async function contactOf(address: string, deps: EntryDeps, signal: AbortSignal): Promise<HopContact> {
  try {
    return await deps.contact(address, { signal })
  } catch (error) {
    if (!isLlmNodeError(error, 'PEER_UNREACHABLE')) throw error
    const { message, hint, meta, cause } = error
    const details = { ...(hint === undefined ? {} : { hint }), meta: { ...meta, address }, cause }
    throw new LlmNodeError('PEER_UNREACHABLE', message, details)
  }
}

function localPart(model: EntryModel, span: Span, maxContext: number): Chain {
  if (model.runner === undefined) throw new LlmNodeError('INTERNAL', 'No layers are held here.')
  const session = model.runner.openSession({ span, maxContext })
  return createLocalChain(session, model.spec.hiddenSize, pipelineLimits.prefillRows)
}
