import { stripVTControlCharacters } from 'node:util'
import { expect, it } from 'vitest'
import { qrText } from '../../../src/cli/qr.ts'
import { readQr } from '../../helpers/read-qr.ts'

it('is read by a reader, at the size of a terminal', () => {
  const text = `llm://${'a'.repeat(56)}.llm`
  const lines = qrText(text).split('\n')
  expect(stripVTControlCharacters(lines[0] ?? '').length).toBeLessThan(60)
  expect(readQr(lines)).toBe(text)
})
