import { ed25519 } from '@noble/curves/ed25519.js'
import { describe, expect, it } from 'vitest'
import type { CheckedAskRequest } from '../../../src/api/types.ts'
import { fromUtf8, utf8 } from '../../../src/base/bytes.ts'
import { parseConfig } from '../../../src/base/config.ts'
import { silentLogger } from '../../../src/base/logger.ts'
import { readAnswerLines, signAnswerRequest, writeAnswerLine } from '../../../src/node/answer-messages.ts'
import { createAnswering } from '../../../src/node/answering.ts'
import { encodeAddress } from '../../../src/p2p/address.ts'
import type { AskProgress } from '../../../src/pipeline/ask.ts'

const network = 'test'
const exporter = new Uint8Array(32).fill(5)
const { secretKey, publicKey: addressKey } = ed25519.keygen()
const address = encodeAddress(addressKey)
const sign = (message: Uint8Array) => ed25519.sign(message, secretKey)

function setUp(answers: Record<string, unknown>, { ready = true } = {}) {
  const asked: CheckedAskRequest[] = []
  const logged: string[] = []
  let nowMs = 0
  let finish: () => void = () => {}
  const held = new Promise<void>((resolve) => {
    finish = resolve
  })
  const service = createAnswering(
    { network, config: parseConfig({ answers }).answers },
    {
      async *generate(request) {
        asked.push(request)
        yield { type: 'text', text: 'hello' } as AskProgress
        if (request.prompt === 'wait') await held
        const result = { model: 'm', finishReason: 'stop', exact: true, promptTokens: 2, tokens: [1, 2] }
        yield { type: 'done', result } as unknown as AskProgress
      },
      isReady: () => ready,
      clock: { nowMs: () => nowMs, monotonicMs: () => nowMs },
      logger: { ...silentLogger, info: (...entry: unknown[]) => void logged.push(JSON.stringify(entry)) } as never,
    },
  )
  const ask = async (request: object, secret = exporter) => {
    const call = { exporter: secret, signal: new AbortController().signal }
    const lines: string[] = []
    for await (const line of service.answer(utf8(JSON.stringify(request)), call)) lines.push(fromUtf8(line).trim())
    return lines
  }
  return { service, ask, asked, logged, finish, pass: (ms: number) => (nowMs += ms) }
}

const auth = signAnswerRequest(exporter, { network, addressKey, sign })

describe('answering others', () => {
  it('is off by default, while there is no model, and on for whoever is named', () => {
    expect(setUp({}).service.offer()).toBeNull()
    expect(setUp({ strangers: true }, { ready: false }).service.offer()).toBeNull()
    expect(setUp({ strangers: true }).service.offer()).toMatchObject({ idleS: 600 })
    expect(setUp({ allow: [address] }).service.offer()).not.toBeNull()
  })

  it('gives the text as it comes, and the figures of it, to a stranger where strangers may ask', async () => {
    const { ask, logged } = setUp({ strangers: true })
    const done = { model: 'm', finishReason: 'stop', exact: true, promptTokens: 2, completionTokens: 2 }
    expect(await ask({ prompt: 'x' })).toEqual(['{"delta":"hello"}', JSON.stringify({ done })])
    expect(logged.join()).toContain('a stranger')
  })

  it('refuses strangers, forged and borrowed proofs where only an address is allowed', async () => {
    const { ask, asked, logged } = setUp({ allow: [address] })
    await expect(ask({ prompt: 'x' })).rejects.toMatchObject({ code: 'PEER_REFUSED' })
    const other = ed25519.keygen()
    const wrong = signAnswerRequest(exporter, { network, addressKey, sign: (m) => ed25519.sign(m, other.secretKey) })
    await expect(ask({ prompt: 'x', auth: wrong })).rejects.toMatchObject({ code: 'AUTH_FAILED' })
    // A proof for another circuit, and for another network.
    await expect(ask({ prompt: 'x', auth }, new Uint8Array(32))).rejects.toMatchObject({ code: 'AUTH_FAILED' })
    const elsewhere = signAnswerRequest(exporter, { network: 'other', addressKey, sign })
    await expect(ask({ prompt: 'x', auth: elsewhere })).rejects.toMatchObject({ code: 'AUTH_FAILED' })
    const stranger = { network, addressKey: other.publicKey, sign: (m: Uint8Array) => ed25519.sign(m, other.secretKey) }
    await expect(ask({ prompt: 'x', auth: signAnswerRequest(exporter, stranger) })).rejects.toMatchObject({
      code: 'PEER_REFUSED',
    })
    expect(asked).toEqual([])
    expect(await ask({ prompt: 'x', auth })).toHaveLength(2)
    expect(logged.join()).toContain(address)
  })

  it('never generates more than it is set to, and hands on nothing else than was asked', async () => {
    const { ask, asked } = setUp({ strangers: true, maxTokens: 10 })
    await ask({ prompt: 'x' })
    await ask({ prompt: 'x', maxTokens: 11, temperature: 0 })
    await ask({ prompt: 'x', maxTokens: 3 })
    expect(asked.map(({ maxTokens }) => maxTokens)).toEqual([10, 10, 3])
    for (const field of ['persist', 'solo', 'profile', 'via', 'resume']) {
      await expect(ask({ prompt: 'x', [field]: true })).rejects.toMatchObject({ code: 'BAD_INPUT' })
    }
  })

  it('keeps to its rate: one for all strangers together, another for each allowed address', async () => {
    const { ask, pass } = setUp({ strangers: true, allow: [address], perMinute: 2 })
    await ask({ prompt: 'x' })
    await ask({ prompt: 'x' })
    await expect(ask({ prompt: 'x' })).rejects.toMatchObject({ code: 'LIMIT' })
    expect(await ask({ prompt: 'x', auth })).toHaveLength(2)
    pass(30_000)
    expect(await ask({ prompt: 'x' })).toHaveLength(2)
    await expect(ask({ prompt: 'x' })).rejects.toMatchObject({ code: 'LIMIT' })
  })

  it('answers no more at once than it is set to', async () => {
    const { ask, service, finish } = setUp({ strangers: true, atOnce: 1 })
    const first = ask({ prompt: 'wait' })
    await new Promise((resolve) => setImmediate(resolve))
    expect(service.offer()).toBe('busy')
    await expect(ask({ prompt: 'x' })).rejects.toMatchObject({ code: 'LIMIT' })
    finish()
    await first
    expect(service.offer()).not.toBe('busy')
  })
})

it('reads lines however the bytes are cut, and nothing that is none', async () => {
  const bytes = Buffer.concat([writeAnswerLine({ delta: 'ä' }), writeAnswerLine({ delta: 'b\n' })])
  for (let cut = 0; cut <= bytes.length; cut++) {
    const lines: unknown[] = []
    for await (const line of readAnswerLines(pieces(bytes.subarray(0, cut), bytes.subarray(cut)))) lines.push(line)
    expect(lines).toEqual([{ delta: 'ä' }, { delta: 'b\n' }])
  }
  for (const bad of ['{"delta":1}\n', 'x\n', '{"delta":"cut', '\n']) {
    await expect(readAnswerLines(pieces(utf8(bad))).next()).rejects.toMatchObject({ code: 'BAD_FRAME' })
  }
})

async function* pieces(...parts: Uint8Array[]) {
  yield* parts
}
