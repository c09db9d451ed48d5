import { realpath } from 'node:fs/promises'
import { dirname } from 'node:path'
import { type Clock, systemClock } from '../base/clock.ts'
import { assertInput, LlmNodeError } from '../base/errors.ts'
import { formatSpan, type Span, spanContains, spanLength } from '../base/span.ts'
import type { ModelSpec } from '../model/spec.ts'
import { createDeviceExecutor } from './device-executor.ts'
import { createExecutor, type Executor, type RunRecord, type RunSession } from './executor.ts'
import { buildSpanGraph } from './graph.ts'
import type { LayerWeights } from './graph-layer.ts'
import { kvBytesPerPosition } from './kv.ts'
import { openOrt, type Provider } from './ort.ts'
import { readPackedLayer } from './packed-file.ts'
import type { RecipeId } from './recipe.ts'
import { shortFactorLimit } from './rope.ts'
import { createScheduler, type Scheduler } from './scheduler.ts'

export type { RunRecord } from './executor.ts'

/** The layers `span` of one model in memory, ready to compute; KV sessions are opened on it. */
export interface SpanRunner {
  readonly spec: ModelSpec
  readonly recipe: RecipeId
  readonly span: Span
  /** KV positions (tokens) that can still be reserved for a session over the whole span. */
  readonly freeKvTokens: number
  memory(): { readonly weightsBytes: number; readonly kvBytes: number }
  /**
   * Reserves KV for `maxContext` positions of the layers `span` (a sub-span of the runner's).
   * Throws SPAN, CONTEXT_TOO_LONG or KV_FULL.
   */
  openSession(request: SessionRequest): KvSession
  /** Waits for the run in progress, then frees everything. Idempotent. */
  close(): Promise<void>
}

export interface SessionRequest {
  readonly span: Span
  /** Positions. */
  readonly maxContext: number
  /** With the long factors of a longrope model. */
  readonly longRope?: boolean
  /** Nothing of the model is computed elsewhere: between two steps the processor is busy with this session's head. */
  readonly local?: boolean
}

/** The KV cache of one session on one span: one generation at a time. */
export interface KvSession {
  readonly span: Span
  readonly maxContext: number
  /** Positions that hold keys and values. */
  readonly length: number
  /**
   * Computes rows at positions [pos, pos + nTokens). `hidden`: [nTokens, hiddenSize] f32, row-major, not to be changed
   * before the result is there; so is the result, a fresh array. `pos` ≤ length: a lower one rolls back. Calls are
   * served in order. The length advances only when all of it succeeded; a call that fails after it rolled back leaves
   * `pos` positions. Throws BAD_INPUT (shape, pos, non-finite values), CONTEXT_TOO_LONG, LIMIT, ENGINE_FAILED, ABORTED.
   */
  forward(pos: number, hidden: Float32Array, options?: { signal?: AbortSignal }): Promise<Float32Array>
  /** Frees the KV after the run in progress. Idempotent. */
  close(): void
}

export interface SpanRunnerOptions {
  readonly spec: ModelSpec
  readonly recipe: RecipeId
  readonly span: Span
  /** Paths of the packed layers `span.start`, `span.start + 1`, …, all in one folder. */
  readonly layerFiles: readonly string[]
  /** Threads of a run. Results do not depend on it. */
  readonly threads: number
  /** Memory that sessions may reserve for keys and values. */
  readonly kvBudgetBytes: number
  /** Another libonnxruntime than the bundled one. */
  readonly library?: string | undefined
  /** What computes; default the processor. On a GPU keys and values are f16. */
  readonly provider?: Provider | undefined
  /** Called after every run. */
  readonly onRun?: ((record: RunRecord) => void) | undefined
  /** Rows of one run at most; default shardLimits.runRows. Results do not depend on it. */
  readonly maxRunRows?: number | undefined
  /** Sessions that share one run at most; default suggestedSlots. Results do not depend on it. */
  readonly slots?: number | undefined
  readonly clock?: Clock
}

/**
 * Loads the layers of `span` and keeps them ready to compute.
 * Throws SPAN, MODEL_NOT_FOUND, MODEL_CORRUPT, ENGINE_UNAVAILABLE or ENGINE_FAILED.
 */
export async function createSpanRunner(options: SpanRunnerOptions): Promise<SpanRunner> {
  const { spec, span, threads } = options
  if (spanLength(span) < 1 || !spanContains({ start: 0, end: spec.nLayers }, span)) {
    throw new LlmNodeError(
      'SPAN',
      `The model has ${spec.nLayers} layers; ${span.start} to ${span.end} is no part of it.`,
    )
  }
  assertInput(Number.isInteger(threads) && threads > 0, `A run cannot have ${threads} threads.`)
  const ort = openOrt(options.library)
  const { model, weightsBytes, weightsFolder } = await loadSpan(options)
  const { provider = 'cpu' } = options
  const graph = await ort.createSession(model, { threads, weightsFolder, provider })
  const create = provider === 'cuda' ? createDeviceExecutor : createExecutor
  const executor = create(options, { ort, graph, clock: options.clock ?? systemClock })
  return new Runner(options, weightsBytes, executor, () => graph.release())
}

class Runner implements SpanRunner {
  readonly spec: ModelSpec
  readonly recipe: RecipeId
  readonly span: Span
  readonly #weightsBytes: number
  readonly #kvBudgetBytes: number
  readonly #executor: Executor
  readonly #scheduler: Scheduler<RunSession>
  readonly #releaseGraph: () => void
  readonly #open = new Map<RunSession, { readonly reservedBytes: number; readonly close: () => void }>()
  #closing: Promise<void> | null = null

  constructor(options: SpanRunnerOptions, weightsBytes: number, executor: Executor, releaseGraph: () => void) {
    this.spec = options.spec
    this.recipe = options.recipe
    this.span = options.span
    this.#weightsBytes = weightsBytes
    this.#kvBudgetBytes = options.kvBudgetBytes
    this.#executor = executor
    this.#releaseGraph = releaseGraph
    this.#scheduler = createScheduler({
      hiddenSize: options.spec.hiddenSize,
      clock: options.clock ?? systemClock,
      slots: executor.slots,
      canShare: (a, b) => executor.canShare(a, b),
      maxRows: (session, pos) => executor.maxRows(session, pos),
      reserve: (work) => executor.reserve(work),
      run: (batch) => executor.run(batch),
    })
  }

  get freeKvTokens(): number {
    // A session takes one position more than it is granted, for the dummy row.
    const bytesPerToken = kvBytesPerPosition(this.spec) * spanLength(this.span)
    return Math.max(0, Math.floor(this.#freeKvBytes() / bytesPerToken) - 1)
  }

  memory(): { weightsBytes: number; kvBytes: number } {
    const kvBytes = [...this.#open.keys()].reduce((sum, { kv }) => sum + kv.sizeBytes, 0)
    return { weightsBytes: this.#weightsBytes, kvBytes }
  }

  openSession(request: SessionRequest): KvSession {
    if (this.#closing !== null) throw new LlmNodeError('ABORTED', 'These layers are being put away.')
    checkRequest(request, this.spec, this.span)
    const positions = request.maxContext + 1
    const bytes = positions * kvBytesPerPosition(this.spec) * spanLength(request.span)
    if (bytes > this.#freeKvBytes()) {
      throw new LlmNodeError('KV_FULL', `A session of ${request.maxContext} tokens does not fit into memory now.`, {
        hint: 'Try again when another session has ended, or ask for a shorter context.',
        meta: { bytes, freeBytes: Math.max(0, this.#freeKvBytes()) },
      })
    }
    const run = this.#executor.openSession(request.span, positions, {
      factors: request.longRope === true ? 'long' : 'short',
      local: request.local === true,
    })
    const close = () => {
      if (run.closed) return
      run.closed = true
      this.#open.delete(run)
      this.#scheduler.drop(run)
    }
    this.#open.set(run, { reservedBytes: bytes, close })
    return createSession(this.spec, request.maxContext, run, this.#scheduler, close)
  }

  close(): Promise<void> {
    this.#closing ??= (async () => {
      for (const { close } of [...this.#open.values()]) close()
      await this.#scheduler.idle()
      this.#executor.release()
      this.#releaseGraph()
    })()
    return this.#closing
  }

  #freeKvBytes(): number {
    let free = this.#kvBudgetBytes
    for (const { reservedBytes } of this.#open.values()) free -= reservedBytes
    return free
  }
}

function checkRequest(request: { span: Span; maxContext: number }, spec: ModelSpec, held: Span): void {
  const { span, maxContext } = request
  if (spanLength(span) < 1 || !spanContains(held, span)) {
    throw new LlmNodeError('SPAN', `Layers ${formatSpan(held)} are held here, not ${span.start} to ${span.end - 1}.`)
  }
  assertInput(Number.isInteger(maxContext) && maxContext > 0, `${maxContext} is no length of a context.`)
  if (maxContext > spec.maxContext) {
    throw new LlmNodeError('CONTEXT_TOO_LONG', `The model's context ends at ${spec.maxContext} tokens.`, {
      meta: { maxContext, modelMaxContext: spec.maxContext },
    })
  }
}

function createSession(
  spec: ModelSpec,
  maxContext: number,
  run: RunSession,
  scheduler: Scheduler<RunSession>,
  close: () => void,
): KvSession {
  const shortLimit = run.factors === 'short' ? shortFactorLimit(spec.rope) : null
  const lastPosition = Math.min(maxContext, shortLimit ?? maxContext)
  return {
    span: run.span,
    maxContext,
    get length() {
      return run.length
    },
    async forward(pos, hidden, options = {}) {
      if (run.closed) throw new LlmNodeError('ABORTED', 'The session was closed.')
      const nTokens = hidden.length / spec.hiddenSize
      assertInput(
        Number.isInteger(nTokens) && nTokens > 0,
        `${hidden.length} values are not rows of ${spec.hiddenSize}.`,
      )
      assertInput(Number.isInteger(pos) && pos >= 0, `${pos} is no position.`)
      if (pos + nTokens > lastPosition) {
        const message = `The context of this session ends at ${lastPosition} tokens, not at ${pos + nTokens}.`
        throw new LlmNodeError('CONTEXT_TOO_LONG', message, { meta: { pos, nTokens, maxContext: lastPosition } })
      }
      assertInput(hidden.every(Number.isFinite), 'The rows hold a value that is not finite.')
      return scheduler.forward(run, pos, hidden, options.signal)
    },
    close,
  }
}

async function loadSpan(options: SpanRunnerOptions) {
  const { spec, recipe, span, layerFiles } = options
  assertInput(layerFiles.length === spanLength(span), `${layerFiles.length} files are not the layers of the span.`)
  const weights: LayerWeights[] = []
  const folders = new Set<string>()
  let weightsBytes = 0
  for (const [i, path] of layerFiles.entries()) {
    const layer = await readPackedLayer(path, spec, recipe, span.start + i)
    weights.push(layer.weights)
    weightsBytes += layer.sizeBytes
    folders.add(await realpath(dirname(path)))
  }
  const [weightsFolder = '', ...others] = folders
  assertInput(others.length === 0, 'The layers of a span have to lie in one folder.')
  const model = buildSpanGraph({
    spec,
    recipe,
    span,
    slots: options.slots,
    kvType: options.provider === 'cuda' ? 'f16' : 'f32',
    weights(layer) {
      const found = weights[layer - span.start]
      if (found === undefined) throw new LlmNodeError('INTERNAL', `Layer ${layer} was not read.`)
      return found
    },
  })
  return { model, weightsBytes, weightsFolder }
}
