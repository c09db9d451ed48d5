/**
 * Guessing tokens ahead over three hops in processes of their own, with and without, in turns: repetitive and plain text
 * of the demo model, links of 0, 5 and 20 ms. The delay of a frame's four links is added where the entry sends it.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { type Chain, createRingChain } from '../src/pipeline/chain.ts'
import { createDrafter } from '../src/pipeline/drafter.ts'
import { generate } from '../src/pipeline/generate.ts'
import { neutralSampling } from '../src/pipeline/sampler.ts'
import { createSession } from '../src/pipeline/session.ts'
import { benchOptions, median, reportFigures } from './lib/harness.ts'
import { openSplitPipeline } from './lib/split-pipeline.ts'
import { openTextSide } from './lib/text-side.ts'

const options = benchOptions()
const ROUNDS = options.quick ? 2 : 5
const TOKENS = options.quick ? 60 : 150
const LINKS = 4
const model = fileURLToPath(new URL('../models/demo-qwen3', import.meta.url))
const recipe = 'i8/1'
const folder = await mkdtemp(join(tmpdir(), 'llm-node-speculation-'))
const { ends, text } = await openTextSide(model, join(folder, 'ends'), recipe)
const spans = [0, 4, 8].map((start) => ({ start, end: start + 4 }))
const pipeline = await openSplitPipeline({ model, recipe, spans, threads: 1, maxContext: 1024 })
const ring = createRingChain(pipeline.ring, (hop) => ({
  span: spans[hop] ?? { start: 0, end: 0 },
  address: '',
  ms: null,
  linkMs: null,
  reason: '',
}))

/** The same ring, further apart. Frames overtake nothing: each is as late as the others. */
function withLatency(ms: number): Chain {
  if (ms === 0) return ring
  return {
    ...ring,
    async forward(frame) {
      await delay(LINKS * ms)
      return ring.forward(frame)
    },
  }
}

interface Text {
  readonly name: 'repetitive' | 'plain'
  readonly promptIds: readonly number[]
  readonly temperature: number
}

interface Run {
  readonly ids: readonly number[]
  readonly tokensPerSecond: number
  readonly drafted: number
  readonly accepted: number
}

/** One answer; the time counts from its first token on. */
async function run(
  { promptIds, temperature }: Text,
  latencyMs: number,
  speculate: boolean,
  maxTokens = TOKENS,
): Promise<Run> {
  const chain = withLatency(latencyMs)
  const none = { leading: undefined, route: undefined, trailing: undefined, numericsClass: undefined }
  const plan = {
    ...none,
    maxContext: chain.maxContext,
    exact: true,
    longRope: false,
    profile: 'local-only' as const,
    ends: undefined,
  }
  const opened = { chain, plan, exact: true, partsMs: null }
  const session = createSession({
    ends,
    attempts: {
      adopt() {},
      beside: async () => undefined,
      besideInHaste: async () => undefined,
      isSound: () => true,
      late() {},
      leaving: () => new Set(),
      open: async () => opened,
      failed(error) {
        throw error
      },
      worked() {},
    },
  })
  const drafter = createDrafter()
  const sampling = { ...neutralSampling, temperature, seed: 3, nTokens: text.tokenizer.nTokens }
  const request = { promptIds, maxTokens, sampling, endTokens: [] }
  const ids: number[] = []
  let firstMs = 0
  for await (const { id } of generate(request, { ends, session, drafter: speculate ? drafter : undefined })) {
    if (ids.length === 0) firstMs = performance.now()
    ids.push(id)
  }
  const seconds = (performance.now() - firstMs) / 1_000
  return { ids, tokensPerSecond: (ids.length - 1) / seconds, drafted: drafter.drafted, accepted: drafter.accepted }
}

const chat = (content: string) => text.encodeChat([{ role: 'user', content }])
// Greedily the demo model falls into a loop here; the measured text goes on within it.
const begin: Text = { name: 'repetitive', promptIds: chat('Count from 1 to 100.'), temperature: 0 }
const loop = (await run(begin, 0, true, 300)).ids
const texts: Text[] = [
  { ...begin, promptIds: [...begin.promptIds, ...loop] },
  { name: 'plain', promptIds: chat('Tell a story.'), temperature: 1 },
]

const figures: Record<string, number> = {}
console.log(`demo model, ${recipe}, three hops, ${TOKENS} tokens × ${ROUNDS}, tokens/s\n`)
console.log('text        link    without      with   gain   right')
for (const latencyMs of [0, 5, 20]) {
  for (const each of texts) {
    const without: number[] = []
    const gains: number[] = []
    let last: Run | undefined
    for (let round = 0; round < ROUNDS; round++) {
      const plain = await run(each, latencyMs, false)
      last = await run(each, latencyMs, true)
      if (last.ids.join() !== plain.ids.join()) throw new Error('a guess has changed a token')
      without.push(plain.tokensPerSecond)
      gains.push(last.tokensPerSecond / plain.tokensPerSecond)
    }
    const gain = median(gains)
    figures[`gain${each.name === 'plain' ? 'Plain' : 'Repetitive'}${latencyMs}ms`] = gain
    const right = `${last?.accepted}/${last?.drafted}`
    const speeds = [median(without), median(without) * gain].map((speed) => speed.toFixed(1).padStart(9))
    const row = [
      each.name.padEnd(10),
      `${latencyMs} ms`.padStart(5),
      ...speeds,
      gain.toFixed(2).padStart(5),
      right.padStart(8),
    ]
    console.log(row.join(' '))
  }
}
await pipeline.close()
await ends.close()
await rm(folder, { recursive: true, force: true })
reportFigures('speculation', figures, options)
