import { mkdtemp, rm } from 'node:fs/promises'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { utf8 } from '../base/bytes.ts'
import { assertInput, LlmNodeError } from '../base/errors.ts'
import { cliLimits, shardLimits } from '../base/limits.ts'
import { type Span, spanLength } from '../base/span.ts'
import type { ModelSpec } from '../model/spec.ts'
import { downloadModel } from '../shard/download.ts'
import { createModelEnds, type ModelEnds } from '../shard/ends.ts'
import { createFolderSource } from '../shard/folder-source.ts'
import type { Holding } from '../shard/holding.ts'
import type { RecipeId } from '../shard/recipe.ts'
import { shortFactorLimit } from '../shard/rope.ts'
import { createSpanRunner, type KvSession, type RunRecord, type SpanRunner } from '../shard/runner.ts'
import type { ModelSource } from '../shard/source.ts'
import { surveyModel } from '../shard/survey.ts'
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
  assertInput(options.rows === undefined || options.rows > 0, `${options.rows} is no number of rows.`)
  const folder = await mkdtemp(join(tmpdir(), 'llm-node-logits-'))
  const runs: RunRecord[] = []
  try {
    const parts = await loadParts(options, folder, (record) => runs.push(record))
    try {
      const generation = createGeneration(parts, options)
      const { tensors, greedy } = await generation.run()
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
  let sum = 0
  const ends = rising ? [...split] : split.map((length) => (sum += length))
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
  const threads = options.threads ?? availableParallelism()
  const source = withoutTokenizer(createFolderSource(options.model))
  const { spec } = await surveyModel(source, signal ? { signal } : {})
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
      const part = { spec, recipe, span, layerFiles, threads, kvBudgetBytes, library, maxRunRows, onRun }
      runners.push(await createSpanRunner(part))
    }
    return { spec, runners, ends: await createModelEnds({ spec, recipe, endsFile: endsPath, threads, library }) }
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

function createGeneration({ spec, runners, ends }: Parts, options: LogitsOptions) {
  const { promptIds, steps, signal } = options
  const { hiddenSize, vocabSize } = spec
  const rowsPerFrame = options.rows ?? shardLimits.runRows
  const maxContext = promptIds.length + Math.max(0, steps - 1)
  const shortLimit = shortFactorLimit(spec.rope) ?? Number.POSITIVE_INFINITY
  const logitsBytes = (promptIds.length + steps) * vocabSize * 4
  assertInput(logitsBytes <= cliLimits.logitsBytes, `The logits would take ${logitsBytes} bytes; ask for less at once.`)

  const openSessions = (spans: readonly Span[], longRope: boolean): KvSession[] =>
    spans.map((span) => {
      const runner = runners.find((held) => held.span.start <= span.start && span.end <= held.span.end)
      if (runner === undefined) throw new LlmNodeError('INTERNAL', 'No part holds these layers.')
      return runner.openSession({ span, maxContext, longRope })
    })

  /** Sends rows through the sessions, in frames; what comes out of each session, whole. */
  const through = async (sessions: readonly KvSession[], rows: Float32Array): Promise<Float32Array[]> => {
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

  const run = async () => {
    const spans = runners.map(({ span }) => span)
    let long = promptIds.length > shortLimit
    let sessions = openSessions(spans, long)
    const embedded = await ends.embed(promptIds)
    const atCuts = await through(sessions, embedded)
    const logits = await ends.logits(atCuts.at(-1) ?? embedded)
    const decodeLogits = new Float32Array(steps * vocabSize)
    const greedy: number[] = []
    for (let row = logits.slice(logits.length - vocabSize); greedy.length < steps; ) {
      decodeLogits.set(row, greedy.length * vocabSize)
      greedy.push(largestId(row))
      if (greedy.length === steps) break
      const nTokens = promptIds.length + greedy.length
      let next = greedy.slice(-1)
      if (nTokens > shortLimit && !long) {
        // From here on the long factors hold, for all positions: everything is computed anew (engine.md §1).
        for (const session of sessions) session.close()
        long = true
        sessions = openSessions(spans, long)
        next = [...promptIds, ...greedy]
      }
      const hidden = (await through(sessions, await ends.embed(next))).at(-1) ?? new Float32Array()
      row = await ends.logits(hidden.slice(hidden.length - hiddenSize))
    }
    for (const session of sessions) session.close()
    const tensors: NamedTensor[] = [
      { name: 'logits', shape: [promptIds.length, vocabSize], data: logits },
      { name: 'decode_logits', shape: [steps, vocabSize], data: decodeLogits },
    ]
    if (options.hidden === true) tensors.push(...(await hiddenRows(embedded, atCuts)))
    return { tensors, greedy }
  }

  /** The prompt once more, layer by layer; where the parts were cut it has to be what came out of them. */
  const hiddenRows = async (embedded: Float32Array, atCuts: readonly Float32Array[]): Promise<NamedTensor[]> => {
    const single = Array.from({ length: spec.nLayers }, (_, start) => ({ start, end: start + 1 }))
    const sessions = openSessions(single, promptIds.length > shortLimit)
    const layers = await through(sessions, embedded)
    for (const session of sessions) session.close()
    for (const [i, { span }] of runners.entries()) {
      const [whole, apart] = [atCuts[i], layers[span.end - 1]]
      if (whole === undefined || apart === undefined || !Buffer.from(whole.buffer).equals(Buffer.from(apart.buffer))) {
        throw new LlmNodeError('ENGINE_FAILED', `Layers one by one are not layers ${span.start} to ${span.end - 1}.`, {
          hint: 'This machine does not compute exactly. Please report it with the output of "llm-node doctor".',
          meta: { start: span.start, layers: spanLength(span) },
        })
      }
    }
    const shape = [promptIds.length, hiddenSize]
    return [embedded, ...layers].map((data, i) => ({ name: `hidden.${i}`, shape, data }))
  }
  return { run }
}

function largestId(logits: Float32Array): number {
  let best = 0
  for (let id = 1; id < logits.length; id++) if ((logits[id] ?? 0) > (logits[best] ?? 0)) best = id
  return best
}
