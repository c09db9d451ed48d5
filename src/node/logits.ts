import { mkdtemp, rm } from 'node:fs/promises'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { utf8 } from '../base/bytes.ts'
import { assertInput, LlmNodeError } from '../base/errors.ts'
import { cliLimits, shardLimits } from '../base/limits.ts'
import { formatSpan, type Span, spanContains } from '../base/span.ts'
import type { ModelSpec } from '../model/spec.ts'
import { downloadModel } from '../shard/download.ts'
import { createModelEnds, type ModelEnds } from '../shard/ends.ts'
import { createFolderSource } from '../shard/folder-source.ts'
import type { Holding } from '../shard/holding.ts'
import { chooseProvider, type ProviderChoice } from '../shard/provider.ts'
import type { RecipeId } from '../shard/recipe.ts'
import { shortFactorLimit } from '../shard/rope.ts'
import { createSpanRunner, type KvSession, type RunRecord, type SpanRunner } from '../shard/runner.ts'
import type { ModelSource } from '../shard/source.ts'
import { surveyModel } from '../shard/survey.ts'
import { suggestedThreads } from '../shard/threads.ts'
import { digestTensors, type NamedTensor, writeTensors } from './logits-tensors.ts'

export interface LogitsOptions {
  /** A model as it is published: a folder with config.json and safetensors files. */
  readonly model: string
  readonly promptIds: readonly number[]
  /** Greedy tokens to generate; end tokens do not stop it. */
  readonly steps: number
  readonly recipe: RecipeId
  /**
   * Where the layers are cut, each part loaded on its own: rising layer numbers ("3,6,9" makes four parts), or lengths
   * that add up to the model's layers ("4,4,4" makes three). Undefined: one part.
   */
  readonly split?: readonly number[] | undefined
  /** Rows of one run at most; default shardLimits.runRows. */
  readonly rows?: number | undefined
  readonly threads?: number | undefined
  /** Safetensors file to write: logits, decode_logits, and hidden.0 … hidden.N. */
  readonly out?: string | undefined
  /** Also the rows after the embedding and after every layer, for the prompt. */
  readonly hidden?: boolean | undefined
  readonly library?: string | undefined
  /** What computes; default the processor. */
  readonly provider?: ProviderChoice | undefined
  /** Told why `auto` takes no GPU. */
  readonly onNotice?: ((text: string) => void) | undefined
  readonly signal?: AbortSignal | undefined
}

export interface LogitsResult {
  readonly schema: 'llm-node/logits/1'
  /** The prompt. */
  readonly ids: readonly number[]
  readonly greedy: readonly number[]
  /** SHA-256 of all tensors (digestTensors). */
  readonly digest: string
  /** Every run, in the order of execution. */
  readonly runs: readonly RunRecord[]
}

/**
 * Raw logits of a prompt and of greedy steps after it, for checking against other engines: through the same download,
 * runner and ends as a node. Throws BAD_INPUT, SPAN, CONTEXT_TOO_LONG, MODEL_*, ENGINE_*, DISK_FULL, ABORTED.
 */
export async function runLogits(options: LogitsOptions): Promise<LogitsResult> {
  const { promptIds, steps } = options
  assertInput(promptIds.length > 0, 'The prompt has no ids.')
  assertInput(Number.isInteger(steps) && steps >= 0, `${steps} is no number of steps.`)
  assertInput(options.rows === undefined || isCount(options.rows), `${options.rows} is no number of rows.`)
  const folder = await mkdtemp(join(tmpdir(), 'llm-node-logits-'))
  const runs: RunRecord[] = []
  try {
    const parts = await loadParts(options, folder, (record) => runs.push(record))
    try {
      const { tensors, greedy } = await new Generation(parts, options).run()
      if (options.out !== undefined) await writeTensors(options.out, tensors)
      return { schema: 'llm-node/logits/1', ids: promptIds, greedy, digest: digestTensors(tensors), runs }
    } finally {
      await parts.ends.close()
      for (const runner of parts.runners) await runner.close()
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** The spans that `split` means (see LogitsOptions). Throws BAD_INPUT. */
export function splitLayers(nLayers: number, split: readonly number[] | undefined): Span[] {
  if (split === undefined || split.length === 0) return [{ start: 0, end: nLayers }]
  const rising = split.every((cut, i) => cut > (split[i - 1] ?? 0)) && (split.at(-1) ?? 0) <= nLayers
  const lengths = split.every((length) => length > 0) && split.reduce((sum, length) => sum + length, 0) === nLayers
  if (!split.every(Number.isInteger) || !(rising || lengths)) {
    throw new LlmNodeError('BAD_INPUT', `${split.join(',')} does not cut ${nLayers} layers into parts.`, {
      hint: 'Give the layers at which to cut, for example 4,8, or lengths that add up, for example 4,4,4.',
    })
  }
  const sums = split.map((_, i) => split.slice(0, i + 1).reduce((sum, length) => sum + length, 0))
  const ends = rising ? [...split] : sums
  if (ends.at(-1) !== nLayers) ends.push(nLayers)
  return ends.map((end, i) => ({ start: ends[i - 1] ?? 0, end }))
}

interface Parts {
  readonly spec: ModelSpec
  readonly runners: readonly SpanRunner[]
  readonly ends: ModelEnds
}

/** Packs and loads each part from a folder of its own, which holds nothing but its layers. */
async function loadParts(options: LogitsOptions, folder: string, onRun: (record: RunRecord) => void): Promise<Parts> {
  const { recipe, library, signal } = options
  const source = withoutTokenizer(createFolderSource(options.model))
  const { spec } = await surveyModel(source, signal ? { signal } : {})
  const threads = options.threads ?? suggestedThreads(spec, availableParallelism())
  const { provider, reason } = await chooseProvider(options.provider ?? 'cpu', recipe, { library })
  if (reason !== null) options.onNotice?.(`The processor computes. ${reason}`)
  const spans = splitLayers(spec.nLayers, options.split)
  const fetch = (name: string, span: Span | null) =>
    downloadModel({
      source,
      recipe,
      span,
      folder: join(folder, name),
      ends: span === null,
      ...(signal ? { signal } : {}),
    })
  const { endsPath } = await fetch('ends', null)
  if (endsPath === null) throw new LlmNodeError('INTERNAL', 'The ends were not packed.')
  const runners: SpanRunner[] = []
  try {
    for (const span of spans) {
      const layerFiles = filesOf(await fetch(`layers-${span.start}`, span))
      const kvBudgetBytes = Number.MAX_SAFE_INTEGER
      const maxRunRows = options.rows ?? shardLimits.runRows
      const part = { spec, recipe, span, layerFiles, threads, kvBudgetBytes, library, provider, maxRunRows, onRun }
      runners.push(await createSpanRunner(part))
    }
    const ends = await createModelEnds({ spec, recipe, endsFile: endsPath, threads, library, provider })
    return { spec, runners, ends }
  } catch (error) {
    for (const runner of runners) await runner.close()
    throw error
  }
}

function filesOf({ layers }: Holding): string[] {
  return [...layers.values()].map(({ path }) => path)
}

/** Token ids come from the command line, so a folder without a tokenizer is as good as one with it. */
function withoutTokenizer(source: ModelSource): ModelSource {
  return {
    ...source,
    async readFile(name, request) {
      return (await source.readFile(name, request)) ?? (name === 'tokenizer.json' ? utf8('{}') : null)
    },
  }
}

/** One prompt and the greedy tokens after it. */
class Generation {
  readonly #parts: Parts
  readonly #options: LogitsOptions
  /** The long factors of a longrope model hold beyond this many positions (engine.md §1). */
  readonly #shortLimit: number

  constructor(parts: Parts, options: LogitsOptions) {
    const { spec } = parts
    const bytes = (options.promptIds.length + options.steps) * spec.vocabSize * 4
    assertInput(bytes <= cliLimits.logitsBytes, `The logits would take ${bytes} bytes; ask for less at once.`)
    this.#parts = parts
    this.#options = options
    this.#shortLimit = shortFactorLimit(spec.rope) ?? Number.POSITIVE_INFINITY
  }

  async run(): Promise<{ tensors: NamedTensor[]; greedy: number[] }> {
    const { spec, ends } = this.#parts
    const { promptIds, steps, hidden } = this.#options
    const embedded = await ends.embed(promptIds)
    const sessions = this.#open(this.#spans(), promptIds.length)
    const atCuts = await this.#through(sessions, embedded)
    const logits = await ends.logits(atCuts.at(-1) ?? embedded)
    const { greedy, decodeLogits } = await this.#decode(sessions, logits.slice(logits.length - spec.vocabSize))
    const tensors: NamedTensor[] = [
      { name: 'logits', shape: [promptIds.length, spec.vocabSize], data: logits },
      { name: 'decode_logits', shape: [steps, spec.vocabSize], data: decodeLogits },
    ]
    if (hidden === true) tensors.push(...(await this.#hidden(embedded, atCuts)))
    return { tensors, greedy }
  }

  /** `row`: the logits after the prompt. Closes the sessions. */
  async #decode(
    sessions: readonly KvSession[],
    row: Float32Array,
  ): Promise<{ greedy: number[]; decodeLogits: Float32Array }> {
    const { spec, ends } = this.#parts
    const { promptIds, steps } = this.#options
    const decodeLogits = new Float32Array(steps * spec.vocabSize)
    const greedy: number[] = []
    for (let open = sessions; ; ) {
      if (greedy.length < steps) {
        decodeLogits.set(row, greedy.length * spec.vocabSize)
        greedy.push(largestId(row))
      }
      const known = promptIds.length + greedy.length
      const crosses = known > this.#shortLimit && known - 1 <= this.#shortLimit
      if (crosses || greedy.length === steps) for (const session of open) session.close()
      if (greedy.length === steps) return { greedy, decodeLogits }
      // Where the long factors begin, they hold for all positions: everything is computed anew.
      if (crosses) open = this.#open(this.#spans(), known)
      const ids = crosses ? [...promptIds, ...greedy] : greedy.slice(-1)
      const hidden = (await this.#through(open, await ends.embed(ids))).at(-1) ?? new Float32Array()
      row = await ends.logits(hidden.slice(hidden.length - spec.hiddenSize))
    }
  }

  /** The prompt once more, layer by layer; where the parts were cut it has to be what came out of them. */
  async #hidden(embedded: Float32Array, atCuts: readonly Float32Array[]): Promise<NamedTensor[]> {
    const { spec, runners } = this.#parts
    const nTokens = this.#options.promptIds.length
    const single = Array.from({ length: spec.nLayers }, (_, start) => ({ start, end: start + 1 }))
    const sessions = this.#open(single, nTokens)
    const layers = await this.#through(sessions, embedded)
    for (const session of sessions) session.close()
    for (const [i, { span }] of runners.entries()) {
      const [whole, apart] = [atCuts[i], layers[span.end - 1]]
      if (whole === undefined || apart === undefined || !Buffer.from(whole.buffer).equals(Buffer.from(apart.buffer))) {
        throw new LlmNodeError(
          'ENGINE_FAILED',
          `Layers ${formatSpan(span)} one by one are not what they are together.`,
          {
            hint: 'This machine does not compute exactly. Please report it with the output of "llm-node doctor".',
          },
        )
      }
    }
    const shape = [nTokens, spec.hiddenSize]
    return [embedded, ...layers].map((data, i) => ({ name: `hidden.${i}`, shape, data }))
  }

  #spans(): Span[] {
    return this.#parts.runners.map(({ span }) => span)
  }

  /** Sessions for a sequence that is `nTokens` long now. */
  #open(spans: readonly Span[], nTokens: number): KvSession[] {
    const { promptIds, steps } = this.#options
    const maxContext = promptIds.length + Math.max(0, steps - 1)
    return spans.map((span) => {
      const runner = this.#parts.runners.find((held) => spanContains(held.span, span))
      if (runner === undefined) throw new LlmNodeError('INTERNAL', 'No part holds these layers.')
      return runner.openSession({ span, maxContext, longRope: nTokens > this.#shortLimit })
    })
  }

  /** Sends rows through the sessions, in frames: what comes out of each session, whole. */
  async #through(sessions: readonly KvSession[], rows: Float32Array): Promise<Float32Array[]> {
    const { hiddenSize } = this.#parts.spec
    const { rows: rowsPerFrame = shardLimits.runRows, signal } = this.#options
    const outputs = sessions.map(() => new Float32Array(rows.length))
    const from = sessions[0]?.length ?? 0
    for (let at = 0; at < rows.length; at += rowsPerFrame * hiddenSize) {
      let frame: Float32Array = rows.slice(at, at + rowsPerFrame * hiddenSize)
      for (const [i, session] of sessions.entries()) {
        frame = await session.forward(from + at / hiddenSize, frame, signal ? { signal } : {})
        outputs[i]?.set(frame, at)
      }
    }
    return outputs
  }
}

function isCount(value: number): boolean {
  return Number.isInteger(value) && value > 0
}

function largestId(logits: Float32Array): number {
  let best = 0
  for (let id = 1; id < logits.length; id++) if ((logits[id] ?? 0) > (logits[best] ?? 0)) best = id
  return best
}
