import type { Connection, Transport } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { p2pLimits } from '../../../src/base/limits.ts'
import { createRefusedDials } from '../../../src/p2p/refused-dials.ts'

const PEER = '12D3KooWFaz49Tkb58bhH6r3TChy3q8XaHrqmBz38ZedFvs8Z52R'
const tcpAt = (ip: string) => multiaddr(`/ip4/${ip}/tcp/4001/p2p/${PEER}`)
const quicAt = (ip: string, peer = PEER) => multiaddr(`/ip4/${ip}/udp/4002/quic-v1/p2p/${peer}`)
const TCP = tcpAt('11.0.0.1')
const QUIC = quicAt('11.0.0.1')

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

/** TCP fails with `code`; QUIC never answers. */
function createPair(code: string) {
  const refused = createRefusedDials(() => Date.now())
  const make = (dial: () => Promise<Connection>) => () => ({ dial }) as unknown as Transport
  const tcp = refused.tcp(make(() => Promise.reject(Object.assign(new Error('no'), { code }))))({})
  const quic = refused.quic(make(() => new Promise(() => {})))({})
  const options = {} as Parameters<Transport['dial']>[1]
  return {
    tcp: (addr = TCP) => tcp.dial(addr, options).catch(() => {}),
    /** Whether QUIC has been given up after so many ms. */
    async isGivenUp(ms: number, addr = QUIC) {
      let over = false
      quic.dial(addr, options).catch(() => {
        over = true
      })
      await vi.advanceTimersByTimeAsync(ms)
      return over
    },
  }
}

test('QUIC waits only a moment where TCP was refused just now', async () => {
  const { tcp, isGivenUp } = createPair('ECONNREFUSED')
  await tcp()
  expect(await isGivenUp(p2pLimits.refusedDialMs - 1)).toBe(false)
  await tcp()
  expect(await isGivenUp(p2pLimits.refusedDialMs)).toBe(true)
})

test('and hardly any in the same network', async () => {
  const { tcp, isGivenUp } = createPair('ECONNREFUSED')
  await tcp(tcpAt('192.168.1.2'))
  expect(await isGivenUp(p2pLimits.refusedLocalMs, quicAt('192.168.1.2'))).toBe(true)
})

test('and as long as always where TCP had no answer, of another peer, or when the refusal is long ago', async () => {
  const silent = createPair('ETIMEDOUT')
  await silent.tcp()
  expect(await silent.isGivenUp(p2pLimits.connectMs)).toBe(false)
  const { tcp, isGivenUp } = createPair('ECONNREFUSED')
  await tcp()
  expect(
    await isGivenUp(
      p2pLimits.refusedDialMs,
      quicAt('11.0.0.1', '12D3KooWGPX3dKo3SnQkZ6U8aAQnfErei2U6kyLmtPwFwQ7pBfHK'),
    ),
  ).toBe(false)
  await tcp(TCP)
  vi.advanceTimersByTime(p2pLimits.connectMs)
  expect(await isGivenUp(p2pLimits.connectMs)).toBe(false)
})

test('places are remembered up to a number', async () => {
  const { tcp, isGivenUp } = createPair('ECONNREFUSED')
  const ips = Array.from({ length: p2pLimits.refusedDials + 1 }, (_, i) => `11.0.${i >> 8}.${i & 255}`)
  for (const ip of ips) await tcp(tcpAt(ip))
  expect(await isGivenUp(p2pLimits.refusedDialMs, quicAt('11.0.0.0'))).toBe(false)
  expect(await isGivenUp(p2pLimits.refusedDialMs, quicAt('11.0.0.1'))).toBe(true)
})
