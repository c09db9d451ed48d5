import { describe, expect, it } from 'vitest'
import { createByteReader } from '../../../src/base/bytes.ts'

describe('byte reader', () => {
  it('gives copies, also from a Buffer, whose slice() is none', () => {
    const source = Buffer.from([1, 2, 3, 4])
    const bytes = createByteReader(source, 'Test').bytes(4, 'all')
    source.fill(0)
    expect(bytes).toEqual(Uint8Array.of(1, 2, 3, 4))
  })
})
