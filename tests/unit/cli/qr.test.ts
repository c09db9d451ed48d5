import { stripVTControlCharacters } from 'node:util'
import decodeQR from 'qr/decode.js'
import { expect, it } from 'vitest'
import { qrText } from '../../../src/cli/qr.ts'

it('is read by a reader, at the size of a terminal', () => {
  const text = `llm://${'a'.repeat(56)}.llm`
  const lines = qrText(text)
    .split('\n')
    .map((line) => stripVTControlCharacters(line))
  const dark = lines.flatMap((line) => [[...line].map((c) => '█▀'.includes(c)), [...line].map((c) => '█▄'.includes(c))])
  expect(lines[0]?.length).toBeLessThan(60)
  const scale = 4
  const width = (dark[0]?.length ?? 0) * scale
  const data = new Uint8Array(width * dark.length * scale * 4)
  for (let i = 0; i < data.length / 4; i++) {
    const [x, y] = [Math.floor((i % width) / scale), Math.floor(i / width / scale)]
    data.fill(dark[y]?.[x] ? 0 : 255, 4 * i, 4 * i + 3)
    data[4 * i + 3] = 255
  }
  expect(decodeQR({ width, height: dark.length * scale, data })).toBe(text)
})
