import { createHash } from 'node:crypto'
import { rmSync } from 'node:fs'
import type { Span } from '../../src/base/span.ts'
import { createModelEnds, type ModelEnds } from '../../src/shard/ends.ts'
import type { RecipeId } from '../../src/shard/recipe.ts'
import { createSpanRunner, type KvSession, type SpanRunner, type SpanRunnerOptions } from '../../src/shard/runner.ts'
import { type PackedModel, packModel } from './packed.ts'

/** A packed model with its runner over `span` (default: all layers) and its ends. `close` removes the files. */
export interface TestEngine {
  readonly model: PackedModel
  readonly runner: SpanRunner
  readonly ends: ModelEnds
  close(): Promise<void>
}

export interface TestEngineOptions
  extends Partial<Pick<SpanRunnerOptions, 'threads' | 'onRun' | 'maxRunRows' | 'slots'>> {
  readonly span?: Span
  readonly kvBudgetBytes?: number
}

export async function openEngine(
  source: string,
  recipe: RecipeId,
  options: TestEngineOptions = {},
): Promise<TestEngine> {
  const model = packModel(source, recipe)
  const runner = await openRunner(model, options)
  const { spec, endsFile } = model
  const ends = await createModelEnds({ spec, recipe, endsFile, threads: options.threads ?? 1 })
  const close = async () => {
    await Promise.all([runner.close(), ends.close()])
    rmSync(model.folder, { recursive: true })
  }
  return { model, runner, ends, close }
}

export function openRunner(model: PackedModel, options: TestEngineOptions = {}): Promise<SpanRunner> {
  const { spec, recipe } = model
  const span = options.span ?? { start: 0, end: spec.nLayers }
  const layerFiles = model.layerFiles.slice(span.start, span.end)
  return createSpanRunner({ threads: 1, kvBudgetBytes: 2 ** 28, ...options, spec, recipe, span, layerFiles })
}

/** Spans that cut `nLayers` layers at `cuts`. */
export function spansAt(nLayers: number, cuts: readonly number[]): Span[] {
  const bounds = [0, ...cuts, nLayers]
  return bounds.slice(1).map((end, i) => ({ start: bounds[i] ?? 0, end }))
}

/** Sends rows through the sessions, one after the other, in chunks: what comes out of each session, whole. */
export async function runChain(
  sessions: readonly KvSession[],
  hidden: Float32Array,
  hiddenSize: number,
  chunk: number,
): Promise<Float32Array[]> {
  const outputs = sessions.map(() => new Float32Array(hidden.length))
  const from = sessions[0]?.length ?? 0
  for (let at = 0; at < hidden.length; at += chunk * hiddenSize) {
    let rows: Float32Array = hidden.slice(at, at + chunk * hiddenSize)
    for (const [i, session] of sessions.entries()) {
      rows = await session.forward(from + at / hiddenSize, rows)
      outputs[i]?.set(rows, at)
    }
  }
  return outputs
}

/** Finite rows that look like activations, the same on every call. */
export function sampleRows(count: number, hiddenSize: number): Float32Array {
  return Float32Array.from({ length: count * hiddenSize }, (_, i) => Math.sin(i * 0.37) * ((i % 11) - 5) * 0.1)
}

export function digestOf(...tensors: readonly Float32Array[]): string {
  const hash = createHash('sha256')
  for (const { buffer, byteOffset, byteLength } of tensors) hash.update(new Uint8Array(buffer, byteOffset, byteLength))
  return hash.digest('hex')
}

/** The last of the rows. */
export function lastRow(rows: Float32Array, width: number): Float32Array {
  return rows.slice(rows.length - width)
}

/** Lowest id among the largest logits. */
export function argmax(logits: Float32Array): number {
  return logits.indexOf(logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY))
}
