import { describe, expect, it } from 'vitest'
import { LlmNodeError } from '../../../src/base/errors.ts'
import { namingOwnLayers } from '../../../src/pipeline/own-layers.ts'

const gap = (...layers: string[]) => {
  throw new LlmNodeError('COVERAGE_GAP', 'held by nobody', { meta: { layers } })
}

describe('namingOwnLayers', () => {
  it('gives what was planned', () => {
    expect(namingOwnLayers({ start: 4, end: 8 }, 'M', () => 7)).toBe(7)
  })

  it('says that only this node holds them', () => {
    const run = () => namingOwnLayers({ start: 4, end: 8 }, 'M', () => gap('4-7'))
    expect(run).toThrow(/^Layers 4-7 of M are held by this node alone/)
  })

  it('leaves other gaps and other errors as they are', () => {
    expect(() => namingOwnLayers({ start: 4, end: 8 }, 'M', () => gap('4-7', '9'))).toThrow(/^held by nobody$/)
    expect(() => namingOwnLayers({ start: 4, end: 8 }, 'M', () => gap('3-5'))).toThrow(/^held by nobody$/)
    expect(() => namingOwnLayers(undefined, 'M', () => gap('4-7'))).toThrow(/^held by nobody$/)
    const full = new LlmNodeError('KV_FULL', 'full')
    const run = () =>
      namingOwnLayers({ start: 4, end: 8 }, 'M', () => {
        throw full
      })
    expect(run).toThrow(full)
  })
})
