import { describe, expect, it } from 'vitest'
import { linkQuality } from '../../../src/node/link-quality.ts'
import { chooseTransport } from '../../../src/p2p/choose-transport.ts'

describe('the transport of a link', () => {
  it('is TCP where nothing speaks for QUIC', () => {
    expect(chooseTransport([50, 50], [])).toBe('tcp')
    expect(chooseTransport([50, 50], [null, null])).toBe('tcp')
    expect(chooseTransport([50, 51], [50, 50])).toBe('tcp')
    expect(chooseTransport([50, 50], [41, 41])).toBe('tcp')
    // Measured with every fifth packet of both lost.
    expect(chooseTransport([10.8, 1.4, 1.6, 1.5], [3.9, 11.1, 34.1, 1.5])).toBe('tcp')
  })

  it('is QUIC where it is clearly better', () => {
    expect(chooseTransport([50, 50], [39, 39])).toBe('quic')
    expect(chooseTransport([50, 250, 50, 50], [50, 90, 50, 50])).toBe('quic')
    expect(chooseTransport([50, null], [50, 60])).toBe('quic')
    expect(chooseTransport([], [60])).toBe('quic')
  })
})

describe('the quality of a link', () => {
  it.each([
    [null, false, null],
    [null, true, null],
    [50, false, 'good'],
    [51, false, 'fair'],
    [150, false, 'fair'],
    [151, false, 'poor'],
    [50, true, 'fair'],
    [51, true, 'poor'],
  ] as const)('of %s ms, relayed %s, is %s', (rttMs, relayed, quality) => {
    expect(linkQuality({ rttMs, relayed })).toBe(quality)
  })
})
