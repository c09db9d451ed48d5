import { encodeQR } from 'qr'

/** Two modules a character, dark on light whatever the colours of the terminal. */
export function qrText(text: string): string {
  const code = encodeQR(text, 'raw', { ecc: 'low', border: 2 })
  const isDark = (row: number, column: number) => code[row]?.[column] === true
  const lines: string[] = []
  for (let row = 0; row < code.length; row += 2) {
    const cells = (code[row] ?? []).map((_, column) => {
      const [top, bottom] = [isDark(row, column), isDark(row + 1, column)]
      return top ? (bottom ? '█' : '▀') : bottom ? '▄' : ' '
    })
    lines.push(`\u001b[30;107m${cells.join('')}\u001b[0m`)
  }
  return lines.join('\n')
}
