/** Drafts with the real engine: the same ids and the same bytes of logits as without. */
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Attempts } from '../../src/pipeline/attempts.ts'
import { type Chain, createLocalChain } from '../../src/pipeline/chain.ts'
import { proposeDraft } from '../../src/pipeline/draft.ts'
import type { Drafter } from '../../src/pipeline/drafter.ts'
import { type GenerateRequest, generate } from '../../src/pipeline/generate.ts'
import { neutralSampling } from '../../src/pipeline/sampler.ts'
import { createSession } from '../../src/pipeline/session.ts'
import { createTextModel, type TextModel } from '../../src/pipeline/text-model.ts'
import { shortFactorLimit } from '../../src/shard/rope.ts'
import { digestOf, openEngine, type TestEngine } from '../helpers/engine.ts'
import { demoTextModel } from '../helpers/text-model.ts'

/** Seven rows whenever there is something to look up, right or wrong, so that rollbacks are met. */
const eager: Drafter = {
  drafted: 0,
  accepted: 0,
  propose: (transcript, room) => proposeDraft(transcript, Math.min(7, room)),
  learn() {},
}

/** A chain that is there from the start and does not fail. */
function onlyChain(chain: Chain): Attempts {
  const none = { leading: undefined, route: undefined, trailing: undefined, numericsClass: undefined }
  const plan = {
    ...none,
    maxContext: chain.maxContext,
    longRope: false,
    exact: true,
    profile: 'local-only' as const,
    ends: undefined,
  }
  return {
    adopt() {},
    beside: async () => undefined,
    besideInHaste: async () => undefined,
    isSound: () => true,
    late() {},
    leaving: () => new Set(),
    open: async () => ({ chain, plan, exact: true, partsMs: null }),
    failed(error) {
      throw error
    },
    worked() {},
  }
}

const MODEL = 'models/demo-qwen3'

describe.each(['f32/1', 'i8/1', 'q8/1', 'q4/1'] as const)('%s', (recipe) => {
  let engine: TestEngine
  let text: TextModel

  beforeAll(async () => {
    engine = await openEngine(MODEL, recipe)
    text = createTextModel(demoTextModel(MODEL))
  })
  afterAll(() => engine.close())

  async function run(request: GenerateRequest, drafter: Drafter | undefined) {
    const { spec } = engine.model
    const span = { start: 0, end: spec.nLayers }
    const maxContext = Math.min(request.promptIds.length + request.maxTokens, 400)
    const frames: number[] = []
    const chain = createLocalChain(engine.runner.openSession({ span, maxContext }), spec.hiddenSize, 16)
    const counted = {
      ...chain,
      forward: (frame: Parameters<typeof chain.forward>[0]) => {
        frames.push(frame.hidden.length / spec.hiddenSize)
        return chain.forward(frame)
      },
    }
    const session = createSession({ ends: engine.ends, attempts: onlyChain(counted) })
    const tokens: number[] = []
    const digests: string[] = []
    const onLogits = (_: number, logits: Float32Array) => void digests.push(digestOf(logits))
    for await (const { id } of generate(request, { ends: engine.ends, session, drafter, onLogits })) tokens.push(id)
    await session.close()
    return { tokens, digests, frames }
  }

  test.each([
    ['greedy', { temperature: 0 }],
    ['sampled', { temperature: 0.8, topK: 20, repetitionPenalty: 1.1 }],
  ])('%s: drafts change no byte', async (_, wishes) => {
    const promptIds = text.encodeChat([{ role: 'user', content: 'one two three four one two three four one two' }])
    const sampling = { ...neutralSampling, seed: 3, nTokens: text.tokenizer.nTokens, ...wishes }
    const request = { promptIds, maxTokens: 60, sampling, endTokens: [] }
    const plain = await run(request, undefined)
    const drafted = await run(request, eager)
    expect(drafted.tokens).toEqual(plain.tokens)
    expect(drafted.digests).toEqual(plain.digests)
    expect(Math.max(...drafted.frames)).toBeLessThanOrEqual(16)
    expect(drafted.frames.length).toBeLessThan(plain.frames.length)
  })
})

describe('a longrope model', () => {
  const folder = 'tests/golden/phi3-longrope-f16'
  let engine: TestEngine

  beforeAll(async () => {
    engine = await openEngine(folder, 'f32/1')
  })
  afterAll(() => engine.close())

  test.each([
    ['with', eager],
    ['without', undefined],
  ])('goes on as transformers does where its factors change, %s drafts', async (_, drafter) => {
    const { cases, longrope_switch: expected } = JSON.parse(readFileSync(`${folder}/expected.json`, 'utf8'))
    const promptIds: number[] = cases[1].prompt_ids.slice(0, expected.prompt_length)
    const { spec } = engine.model
    const span = { start: 0, end: spec.nLayers }
    const shortLimit = shortFactorLimit(spec.rope)
    expect(promptIds.length).toBeLessThanOrEqual(shortLimit ?? 0)
    const opened: boolean[] = []
    const attempts: Attempts = {
      ...onlyChain({} as Chain),
      async open(signal, { longRope } = { longRope: false }) {
        opened.push(longRope)
        const kv = engine.runner.openSession({ span, maxContext: 400, longRope })
        const chain = onlyChain(createLocalChain(kv, spec.hiddenSize, 64))
        const { plan, ...rest } = await chain.open(signal)
        return { ...rest, plan: { ...plan, longRope } }
      },
    }
    const session = createSession({ ends: engine.ends, attempts, shortLimit })
    const sampling = { ...neutralSampling, temperature: 0, seed: 0, nTokens: spec.vocabSize }
    const request = { promptIds, maxTokens: expected.generate_ids.length, sampling, endTokens: [] }
    const tokens: number[] = []
    for await (const { id } of generate(request, { ends: engine.ends, session, drafter })) tokens.push(id)
    await session.close()
    expect(tokens).toEqual(expected.generate_ids)
    expect(opened).toEqual([false, true])
  })
})
