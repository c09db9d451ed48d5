import { describe, expect, it } from 'vitest'
import { fromUtf8, utf8 } from '../../../src/base/bytes.ts'
import { LlmNodeError } from '../../../src/base/errors.ts'
import { onionLimits } from '../../../src/base/limits.ts'
import type { Logger } from '../../../src/base/logger.ts'
import type { AnswerService } from '../../../src/onion/ports.ts'
import { createSwarm, idleStats, type Swarm, type SwarmSettings } from './swarm.ts'
import { settle } from './virtual-clock.ts'

const offer = { idleS: 600, lifeS: 3_600, queueBytes: onionLimits.queueBytes }
const signal = new AbortController().signal

/** Says back what it was asked, then `pieces`; notes what it was given. */
function echo(pieces: () => AsyncIterable<Uint8Array> = async function* () {}) {
  const seen: { request: string; exporter: string; aborted: () => boolean }[] = []
  const answers: AnswerService = {
    offer: () => offer,
    async *answer(request, call) {
      const exporter = Buffer.from(call.exporter).toString('hex')
      seen.push({ request: fromUtf8(request), exporter, aborted: () => call.signal.aborted })
      yield utf8(`you said ${fromUtf8(request)}`)
      yield* pieces()
    },
  }
  return { answers, seen }
}

function open(swarm: Swarm, shape: string) {
  return swarm.entry.service.openAnswer(swarm.options(shape).hops, { signal })
}

async function readAll(stream: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const parts: Uint8Array[] = []
  for await (const part of stream) parts.push(part)
  return Buffer.concat(parts)
}

/** A swarm whose clock runs, so that nothing waits for ever. */
function running(settings: SwarmSettings, nHops = 3): Swarm {
  return createSwarm(nHops, settings)
}

describe('an answer circuit', () => {
  it.each(['a', 'ra', 'ar', 'rar', 'rrarr'])('%s: brings the request there and the answer back', async (shape) => {
    const { answers, seen } = echo()
    const swarm = running({ answers }, shape.length)
    const circuit = await open(swarm, shape)
    const exporter = Buffer.from(circuit.exporter).toString('hex')
    expect(fromUtf8(await readAll(circuit.ask(utf8('hello'))))).toBe('you said hello')
    expect(seen).toMatchObject([{ request: 'hello', exporter }])
    expect(exporter).toMatch(/^[0-9a-f]{64}$/)
    await settle()
    expect(swarm.network.openLinks).toBe(0)
    for (const node of [swarm.entry, ...swarm.hops]) expect(node.service.stats()).toEqual(idleStats)
  })

  it('lets the answering node see its neighbours only, in its frames and in its log', async () => {
    const lines: string[] = []
    const note = (...entry: unknown[]) =>
      void lines.push(JSON.stringify(entry, (_, value) => (value instanceof Error ? value.message : value)))
    const logger = { trace: note, debug: note, info: note, warn: note, error: note } as unknown as Logger
    const { answers } = echo()
    const swarm = running({ answers, logger, watch: true })
    const circuit = await open(swarm, 'rar')
    await readAll(circuit.ask(utf8('who am I')))
    const answering = swarm.hops[1]
    const { peerId, addressKey } = swarm.entry
    const held = Buffer.concat(answering?.opened ?? []).toString('latin1') + lines.join()
    expect(held).toContain('who am I')
    expect(held).not.toContain(peerId)
    expect(held).not.toContain(Buffer.from(addressKey).toString('latin1'))
    expect(held).not.toContain(Buffer.from(addressKey).toString('hex'))
  })

  it('is refused by a node that answers nobody, and by one that is busy', async () => {
    await expect(open(running({}), 'rar')).rejects.toMatchObject({ code: 'PEER_REFUSED', meta: { status: 'REJECT' } })
    const answers: AnswerService = { ...echo().answers, offer: () => 'busy' }
    await expect(open(running({ answers }), 'rar')).rejects.toMatchObject({ meta: { status: 'BUSY' } })
  })

  it('tells the code with which the node refuses, and nothing else', async () => {
    const answers: AnswerService = {
      offer: () => offer,
      // biome-ignore lint/correctness/useYield: it fails before the first piece
      async *answer() {
        throw new LlmNodeError('AUTH_FAILED', 'a secret reason')
      },
    }
    const circuit = await open(running({ answers }), 'rar')
    const failure = await readAll(circuit.ask(utf8('x'))).catch((error: unknown) => error)
    expect(failure).toMatchObject({ code: 'PEER_REFUSED', meta: { status: 'AUTH_FAILED' } })
    expect(String(failure)).not.toContain('secret')
  })

  it('ends with a request of one byte more than is taken', async () => {
    const { answers, seen } = echo()
    const most = 'x'.repeat(onionLimits.answerRequestBytes)
    const circuit = await open(running({ answers }), 'rar')
    expect(await readAll(circuit.ask(utf8(most)))).toHaveLength(most.length + 9)
    const other = await open(running({ answers, limits: { answerRequestBytes: 1_000 } }), 'rar')
    await expect(readAll(other.ask(utf8('x'.repeat(1_001))))).rejects.toMatchObject({ code: 'BAD_INPUT' })
    expect(seen).toHaveLength(1)
  })

  it('ends an answer that becomes longer than 4 MiB', async () => {
    const { answers } = echo(async function* () {
      for (let i = 0; i < 5; i++) yield new Uint8Array(1_048_576)
    })
    const circuit = await open(running({ answers }), 'rar')
    await expect(readAll(circuit.ask(utf8('x')))).rejects.toMatchObject({ meta: { status: 'LIMIT' } })
  })

  it('sends no more than the window ahead of a caller who does not read', async () => {
    let given = 0
    const piece = onionLimits.answerFrameBytes
    const { answers } = echo(async function* () {
      for (let i = 0; i < 64; i++) {
        given += piece
        yield new Uint8Array(piece)
      }
    })
    const circuit = await open(running({ answers }), 'rar')
    const answer = circuit.ask(utf8('x'))
    await answer.next()
    for (let i = 0; i < 50; i++) await settle()
    expect(given).toBeLessThanOrEqual(onionLimits.answerWindowBytes + piece)
    expect((await readAll(answer)).length).toBe(64 * piece)
  })

  it('stops the generation when the caller goes', async () => {
    const { answers, seen } = echo(async function* () {
      await new Promise(() => {})
    })
    const swarm = running({ answers })
    const circuit = await open(swarm, 'rar')
    await circuit.ask(utf8('x')).next()
    circuit.close()
    for (let i = 0; i < 10; i++) await settle()
    expect(seen[0]?.aborted()).toBe(true)
    expect(swarm.network.openLinks).toBe(0)
  })

  it('asks in silence whether the node is still there', async () => {
    const { answers } = echo(async function* () {
      await new Promise(() => {})
    })
    const swarm = running({ answers })
    const circuit = await open(swarm, 'rar')
    const answer = circuit.ask(utf8('x'))
    await answer.next()
    const next = answer.next().catch((error: unknown) => error)
    await swarm.clock.advance(6 * onionLimits.answerSilenceMs)
    expect(await Promise.race([next, settle()])).toBeUndefined()
    swarm.network.mute(swarm.hops[1]?.peerId ?? '')
    await swarm.clock.advance(onionLimits.answerSilenceMs + onionLimits.opMs + 1)
    expect(await next).toMatchObject({ code: 'HOP_TIMEOUT' })
  })

  it('is refused for a route that cannot be one', async () => {
    const swarm = running({ answers: echo().answers }, 6)
    for (const shape of ['r', 'aa', 'ca', 'rrrrra']) {
      await expect(open(swarm, shape)).rejects.toMatchObject({ code: 'BAD_INPUT' })
    }
    expect(swarm.entry.service.stats()).toEqual(idleStats)
  })
})
