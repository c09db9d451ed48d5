/**
 * What each recipe costs in quality: perplexity, and how often the most probable token is the one of f32. The demo
 * model reads 200 chats of its held-out corpus and is scored on the assistant's tokens; the models of tests/golden,
 * whose weights are random, read their own greedy continuations (by transformers) and are scored on those.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createTokenizer } from '../src/model/tokenizer.ts'
import { downloadModel } from '../src/shard/download.ts'
import { createModelEnds, type ModelEnds } from '../src/shard/ends.ts'
import { createFolderSource } from '../src/shard/folder-source.ts'
import { parseRecipe, type RecipeId } from '../src/shard/recipe.ts'
import { shortFactorLimit } from '../src/shard/rope.ts'
import { createSpanRunner, type SpanRunner } from '../src/shard/runner.ts'
import { surveyModel } from '../src/shard/survey.ts'
import { benchOptions, reportFigures } from './lib/harness.ts'

/** Token ids, and which of them are scored (given all before them). */
interface Text {
  readonly ids: readonly number[]
  readonly scored: readonly boolean[]
}

interface Score {
  readonly perplexity: number
  /** The most probable token at every scored place, one text after the other. */
  readonly choices: readonly number[]
}

const recipes = ['f32', 'q8', 'i8', 'q4'] as const

async function scoreModel(folder: string, recipe: RecipeId, texts: readonly Text[]): Promise<Score> {
  const target = mkdtempSync(join(tmpdir(), 'llm-node-quality-'))
  try {
    const source = createFolderSource(folder)
    const { spec } = await surveyModel(source)
    const span = { start: 0, end: spec.nLayers }
    const { layers, endsPath } = await downloadModel({ source, folder: target, recipe, span, ends: true })
    const layerFiles = [...layers.values()].map(({ path }) => path)
    const runner = await createSpanRunner({ spec, recipe, span, layerFiles, threads: 2, kvBudgetBytes: 2 ** 31 })
    const ends = await createModelEnds({ spec, recipe, endsFile: endsPath ?? '', threads: 2 })
    try {
      return await scoreTexts(runner, ends, texts)
    } finally {
      await Promise.all([runner.close(), ends.close()])
    }
  } finally {
    rmSync(target, { recursive: true, force: true })
  }
}

async function scoreTexts(runner: SpanRunner, ends: ModelEnds, texts: readonly Text[]): Promise<Score> {
  const { spec, span } = runner
  const shortLimit = shortFactorLimit(spec.rope) ?? Number.POSITIVE_INFINITY
  let nats = 0
  const choices: number[] = []
  for (const { ids, scored } of texts) {
    const session = runner.openSession({ span, maxContext: ids.length, longRope: ids.length > shortLimit })
    const hidden = await session.forward(0, await ends.embed(ids))
    session.close()
    const places = scored.flatMap((wanted, i) => (wanted && i > 0 ? [i] : []))
    const rows = new Float32Array(places.length * spec.hiddenSize)
    // The row before a token is the one that predicts it.
    for (const [i, place] of places.entries()) {
      rows.set(hidden.subarray((place - 1) * spec.hiddenSize, place * spec.hiddenSize), i * spec.hiddenSize)
    }
    const logits = await ends.logits(rows)
    for (const [i, place] of places.entries()) {
      const row = logits.subarray(i * spec.vocabSize, (i + 1) * spec.vocabSize)
      const { largest, logSum } = readRow(row)
      nats += logSum - (row[ids[place] ?? 0] ?? Number.NaN)
      choices.push(largest)
    }
  }
  return { perplexity: Math.exp(nats / choices.length), choices }
}

function readRow(row: Float32Array): { largest: number; logSum: number } {
  let largest = 0
  for (let id = 1; id < row.length; id++) if ((row[id] ?? 0) > (row[largest] ?? 0)) largest = id
  const top = row[largest] ?? 0
  let sum = 0
  for (const logit of row) sum += Math.exp(logit - top)
  return { largest, logSum: top + Math.log(sum) }
}

/** The chats as the model was trained on them: ChatML, scored where the assistant speaks, its end token included. */
function demoTexts(folder: string, count: number): Text[] {
  const tokenizer = createTokenizer({
    tokenizerJson: JSON.parse(readFileSync(join(folder, 'tokenizer.json'), 'utf8')),
  })
  const encode = (text: string) => tokenizer.encode(text, { addSpecialTokens: false })
  const lines = readFileSync(new URL('data/demo-held-out.jsonl', import.meta.url), 'utf8')
    .trim()
    .split('\n')
  return lines.slice(0, count).map((line): Text => {
    const messages = JSON.parse(line) as { role: string; content: string }[]
    const ids: number[] = []
    const scored: boolean[] = []
    const add = (text: string, counts: boolean) => {
      const added = encode(text)
      ids.push(...added)
      scored.push(...added.map(() => counts))
    }
    for (const { role, content } of messages) {
      add(`<|im_start|>${role}\n`, false)
      add(`${content}<|im_end|>`, role === 'assistant')
      add('\n', false)
    }
    return { ids, scored }
  })
}

function goldenTexts(folder: string): Text[] {
  const { cases } = JSON.parse(readFileSync(join(folder, 'expected.json'), 'utf8')) as {
    cases: { prompt_ids: number[]; greedy_ids: number[] }[]
  }
  return cases.map(({ prompt_ids: prompt, greedy_ids: greedy }) => ({
    ids: [...prompt, ...greedy],
    scored: [...prompt.map(() => false), ...greedy.map(() => true)],
  }))
}

function agreement(score: Score, reference: Score): number {
  const equal = score.choices.filter((id, i) => id === reference.choices[i]).length
  return equal / score.choices.length
}

async function main(): Promise<void> {
  const options = benchOptions()
  const root = new URL('../', import.meta.url).pathname
  const demo = join(root, 'models/demo-qwen3')
  const golden = join(root, 'tests/golden')
  const fixtures = readdirSync(golden, { withFileTypes: true }).filter(
    (entry) => entry.isDirectory() && readdirSync(join(golden, entry.name)).includes('expected.json'),
  )
  const models = [
    { name: 'demo-qwen3', folder: demo, texts: demoTexts(demo, options.quick ? 60 : 200) },
    ...fixtures.map(({ name }) => ({ name, folder: join(golden, name), texts: goldenTexts(join(golden, name)) })),
  ]
  console.log('perplexity (agreement with f32, %)')
  console.log(['model'.padEnd(20), 'tokens', ...recipes.map((name) => name.padStart(18))].join(' '))
  const figures: Record<string, number> = {}
  for (const { name, folder, texts } of models) {
    const scores: Score[] = []
    for (const recipe of recipes) scores.push(await scoreModel(folder, parseRecipe(recipe), texts))
    const [reference] = scores
    if (reference === undefined) continue
    const cells = scores.map((score, i) => {
      const agrees = agreement(score, reference)
      const prefix = name === 'demo-qwen3' ? '' : `${name}.`
      figures[`${prefix}perplexity_${recipes[i]}`] = round(score.perplexity)
      if (i > 0) figures[`${prefix}agreement_${recipes[i]}`] = round(agrees)
      return `${score.perplexity.toFixed(4)} (${(100 * agrees).toFixed(1)})`.padStart(18)
    })
    console.log([name.padEnd(20), String(reference.choices.length).padStart(6), ...cells].join(' '))
  }
  reportFigures('quality', figures, options)
}

const round = (value: number) => Math.round(value * 10_000) / 10_000

await main()
