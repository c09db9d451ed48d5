import { stripVTControlCharacters } from 'node:util'
import decodeQR from 'qr/decode.js'

/** What a reader sees on a terminal: two rows of modules a line, drawn as blocks. */
export function readQr(lines: readonly string[]): string {
  const plain = lines.map((line) => stripVTControlCharacters(line))
  const dark = plain.flatMap((line) => ['█▀', '█▄'].map((signs) => [...line].map((sign) => signs.includes(sign))))
  const scale = 4
  const width = (dark[0]?.length ?? 0) * scale
  const data = new Uint8Array(width * dark.length * scale * 4)
  for (let i = 0; i < data.length / 4; i++) {
    const [x, y] = [Math.floor((i % width) / scale), Math.floor(i / width / scale)]
    data.fill(dark[y]?.[x] === true ? 0 : 255, 4 * i, 4 * i + 3)
    data[4 * i + 3] = 255
  }
  return decodeQR({ width, height: dark.length * scale, data })
}
