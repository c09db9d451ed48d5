import { fromHex } from '../base/bytes.ts'
import { LlmNodeError } from '../base/errors.ts'
import { onionLimits, pipelineLimits } from '../base/limits.ts'
import { type Span, spanLength } from '../base/span.ts'
import type { LayerHolder } from '../coverage/map.ts'
import { findRoute, type Route } from '../coverage/route.ts'
import type { ModelSpec } from '../model/spec.ts'
import type { HopTarget, Ring, RingOptions } from '../onion/ring.ts'
import type { SpanRunner } from '../shard/runner.ts'
import { type Chain, createLocalChain, createRingChain, joinChains } from './chain.ts'

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
}

export interface OpenedChain {
  readonly chain: Chain
  /** The answer is byte-identical to one process: every part computes in this process's numerics class. */
  readonly exact: boolean
  /** Tokens per second: alone (null when this node cannot hold the model), and over this chain. Estimates. */
  readonly estimate: { readonly solo: number | null; readonly split: number | null }
}

/**
 * Opens the chain for one generation: layers held here at either end stay here, a ring carries the rest. Throws
 * COVERAGE_GAP, COVERAGE_FRAGMENTED, CONTEXT_TOO_LONG and what building a circuit throws.
 */
export async function openChain(
  model: EntryModel,
  request: { maxContext: number; solo: boolean; swarm?: boolean; signal: AbortSignal },
  deps: EntryDeps,
): Promise<OpenedChain> {
  const whole: Span = { start: 0, end: model.spec.nLayers }
  if (request.maxContext > model.spec.maxContext) {
    throw new LlmNodeError(
      'CONTEXT_TOO_LONG',
      `Prompt and answer would take ${request.maxContext} tokens; ${model.name} holds ${model.spec.maxContext}.`,
      { hint: 'Shorten the prompt, or ask for fewer tokens.' },
    )
  }
  if (request.solo) return openSolo(model, whole, request.maxContext)
  const { leading, ring, trailing } = divide(request.swarm ? undefined : model.runner?.span, whole)
  if (ring === undefined) return openSolo(model, whole, request.maxContext)
  const plan = planRoute(model, ring, request.maxContext, deps)
  const rest = await openRing(model, plan.route, request, deps)
  const parts = [
    ...(leading === undefined ? [] : [localPart(model, leading, request.maxContext)]),
    rest,
    ...(trailing === undefined ? [] : [localPart(model, trailing, request.maxContext)]),
  ] as [Chain, ...Chain[]]
  const localLayers = whole.end - spanLength(ring)
  const splitMs = plan.route.decodeMs + localLayers * (model.localDecodeMs ?? 0)
  return {
    chain: joinChains(parts, model.spec.hiddenSize),
    exact: plan.exact,
    estimate: { solo: null, split: 1000 / splitMs },
  }
}

/** Throws as openChain would when layers are missing in the swarm; opens nothing. */
export function requireCoverage(model: EntryModel, deps: Pick<EntryDeps, 'holders'>): void {
  const { ring } = divide(model.runner?.span, { start: 0, end: model.spec.nLayers })
  if (ring !== undefined) planRoute(model, ring, 1, deps)
}

function openSolo(model: EntryModel, whole: Span, maxContext: number): OpenedChain {
  const held = model.runner?.span
  if (held === undefined || held.start !== 0 || held.end !== whole.end) {
    throw new LlmNodeError('NOT_SET_UP', `This node does not hold all ${whole.end} layers of ${model.name}.`, {
      hint: 'Ask the swarm instead (without --solo), or fetch them: llm-node setup --layers all',
    })
  }
  const solo = model.localDecodeMs === null ? null : 1000 / (model.localDecodeMs * whole.end)
  return { chain: localPart(model, whole, maxContext), exact: true, estimate: { solo, split: null } }
}

/** What stays here at either end, and the middle for the ring. Held layers in the middle are left to others. */
function divide(held: Span | undefined, whole: Span): { leading?: Span; ring?: Span; trailing?: Span } {
  if (held === undefined) return { ring: whole }
  if (held.start === 0 && held.end >= whole.end) return {}
  if (held.start === 0) return { leading: held, ring: { start: held.end, end: whole.end } }
  if (held.end === whole.end) return { ring: { start: 0, end: held.start }, trailing: held }
  return { ring: whole }
}

/** One numerics class on the whole ring: this process's own where it reaches, otherwise the best other one. */
function planRoute(
  model: EntryModel,
  span: Span,
  maxContext: number,
  deps: Pick<EntryDeps, 'holders'>,
): { route: Route; exact: boolean } {
  const all = deps.holders(model.modelId, model.recipe)
  const classes = [...new Set([model.numericsClass, ...all.map((holder) => holder.numericsClass)])]
  const request = { span, maxContext, maxHops: onionLimits.computeHops, modelName: model.name }
  let failure: unknown
  for (const numericsClass of classes) {
    try {
      const route = findRoute(
        all.filter((holder) => holder.numericsClass === numericsClass),
        request,
      )
      return { route, exact: numericsClass === model.numericsClass }
    } catch (error) {
      failure ??= error
    }
  }
  // Only classes together may cover everything: then it works, but not exactly. What is missing is said over all.
  const mixed = classes.length > 1 ? findRoute(all, request) : undefined
  if (mixed === undefined) throw failure
  return { route: mixed, exact: false }
}

const ANY_CLASS = '00'.repeat(32)

async function openRing(
  model: EntryModel,
  route: Route,
  request: { maxContext: number; signal: AbortSignal },
  deps: EntryDeps,
): Promise<Chain> {
  const contacts = await Promise.all(
    route.hops.map(({ holder }) => deps.contact(holder.address, { signal: request.signal })),
  )
  const hops = route.hops.map(({ span }, index): HopTarget => {
    const contact = contacts[index]
    if (contact === undefined) throw new LlmNodeError('INTERNAL', 'A hop has no contact.')
    return { role: 'compute', span, ...contact }
  })
  const classes = new Set(route.hops.map(({ holder }) => holder.numericsClass))
  const [only] = classes
  const ring = await deps.openRing(
    {
      hops,
      modelId: model.modelId,
      hiddenSize: model.spec.hiddenSize,
      maxContext: request.maxContext,
      numericsClass: fromHex(classes.size === 1 && only !== undefined ? only : ANY_CLASS),
    },
    { signal: request.signal },
  )
  return createRingChain(ring, (index) => {
    const hop = route.hops[index]
    if (hop === undefined) throw new LlmNodeError('INTERNAL', 'A hop has no holder.')
    return { span: hop.span, address: hop.holder.address, ms: hop.holder.decodeMs * spanLength(hop.span) }
  })
}

function localPart(model: EntryModel, span: Span, maxContext: number): Chain {
  if (model.runner === undefined) throw new LlmNodeError('INTERNAL', 'No layers are held here.')
  const session = model.runner.openSession({ span, maxContext })
  return createLocalChain(session, model.spec.hiddenSize, pipelineLimits.prefillRows)
}
