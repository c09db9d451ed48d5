import type { Connection, Transport } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { p2pLimits } from '../../../src/base/limits.ts'
import { createRefusedDials } from '../../../src/p2p/refused-dials.ts'

const TCP = multiaddr('/ip4/11.0.0.1/tcp/4001')
const QUIC = multiaddr('/ip4/11.0.0.1/udp/4001/quic-v1')

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
  await tcp(multiaddr('/ip4/192.168.1.2/tcp/4001'))
  expect(await isGivenUp(p2pLimits.refusedLocalMs, multiaddr('/ip4/192.168.1.2/udp/4001/quic-v1'))).toBe(true)
})

test('and as long as always where TCP had no answer, at another port, or when the refusal is long ago', async () => {
  const silent = createPair('ETIMEDOUT')
  await silent.tcp()
  expect(await silent.isGivenUp(p2pLimits.connectMs)).toBe(false)
  const { tcp, isGivenUp } = createPair('ECONNREFUSED')
  await tcp()
  expect(await isGivenUp(p2pLimits.refusedDialMs, multiaddr('/ip4/11.0.0.1/udp/4002/quic-v1'))).toBe(false)
  await tcp(TCP)
  vi.advanceTimersByTime(p2pLimits.connectMs)
  expect(await isGivenUp(p2pLimits.connectMs)).toBe(false)
})

test('places are remembered up to a number', async () => {
  const { tcp, isGivenUp } = createPair('ECONNREFUSED')
  for (let port = 4_001; port <= 4_001 + p2pLimits.refusedDials; port++) {
    await tcp(multiaddr(`/ip4/11.0.0.1/tcp/${port}`))
  }
  expect(await isGivenUp(p2pLimits.refusedDialMs)).toBe(false)
  expect(await isGivenUp(p2pLimits.refusedDialMs, multiaddr('/ip4/11.0.0.1/udp/4002/quic-v1'))).toBe(true)
})
