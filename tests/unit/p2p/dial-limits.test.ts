import type { Connection, Transport, Upgrader } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { p2pLimits } from '../../../src/base/limits.ts'
import { limitDial, limitReaching } from '../../../src/p2p/dial-limits.ts'

beforeEach(() => {
  vi.useFakeTimers()
  // AbortSignal.timeout keeps real time.
  vi.spyOn(AbortSignal, 'timeout').mockImplementation((ms) => {
    const controller = new AbortController()
    setTimeout(() => controller.abort(), ms)
    return controller.signal
  })
})
afterEach(() => {
  vi.restoreAllMocks()
  vi.useRealTimers()
})

const ended = (signal: AbortSignal) =>
  new Promise<never>((_, reject) => signal.addEventListener('abort', () => reject(new Error('given up'))))

/** Ms after which a dial is given up, of the 5 s that the dial queue allows. */
async function givenUpAfter(limit: typeof limitReaching, isReached: boolean): Promise<number> {
  const upgradeOutbound = (_: unknown, { signal }: { signal: AbortSignal }) => ended(signal)
  const dial: Transport['dial'] = (_, options) =>
    isReached ? options.upgrader.upgradeOutbound({} as never, options) : ended(options.signal)
  const transport = limit(() => ({ dial }) as Transport)({})
  const options = {
    signal: AbortSignal.timeout(p2pLimits.connectMs),
    upgrader: { upgradeOutbound } as unknown as Upgrader,
  }
  const fromMs = Date.now()
  const over = transport.dial(multiaddr('/ip4/11.0.0.1/tcp/4001'), options).then(
    (_: Connection) => Number.NaN,
    () => Date.now() - fromMs,
  )
  await vi.advanceTimersByTimeAsync(p2pLimits.connectMs)
  return await over
}

test('an address at which nobody is gets its part of the time, a handshake all of it', async () => {
  expect(await givenUpAfter(limitReaching, false)).toBe(p2pLimits.connectAddressMs)
  expect(await givenUpAfter(limitReaching, true)).toBe(p2pLimits.connectMs)
})

test('a dial by way of a relay gets its part of the time', async () => {
  expect(await givenUpAfter(limitDial, false)).toBe(p2pLimits.connectAddressMs)
  expect(await givenUpAfter(limitDial, true)).toBe(p2pLimits.connectAddressMs)
})
