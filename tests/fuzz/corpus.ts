import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'

/** A corpus is a text file, one input in base64 a line: reviewable, and one file instead of a thousand. */
export function readCorpus(path: string): Uint8Array[] {
  if (!existsSync(path)) return []
  const lines = readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
  // '.' stands for the empty input.
  return lines.map((line) => (line === '.' ? new Uint8Array(0) : Uint8Array.from(Buffer.from(line, 'base64'))))
}

export function writeCorpus(path: string, inputs: readonly Uint8Array[]): void {
  mkdirSync(dirname(path), { recursive: true })
  const lines = inputs.map((input) => Buffer.from(input).toString('base64') || '.')
  writeFileSync(path, `${[...new Set(lines)].join('\n')}\n`)
}

export function corpusFile(target: string): string {
  return new URL(`corpus/${target}.txt`, import.meta.url).pathname
}
