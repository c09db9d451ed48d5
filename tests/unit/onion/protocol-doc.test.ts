import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { onionLimits, p2pLimits } from '../../../src/base/limits.ts'
import { COMMAND, MAX_CHUNK_BYTES } from '../../../src/onion/frames.ts'
import {
  CREATE_BYTES,
  CREATED_BYTES,
  encodeClientMessage,
  encodeServerMessage,
} from '../../../src/onion/handshake-messages.ts'
import { OP } from '../../../src/onion/ops.ts'
import { CHUNK_CLASSES, CONTROL_FRAME_BYTES, DATA_HEADER_BYTES } from '../../../src/p2p/circuit-frames.ts'

/** docs/protocol.md is what a second implementation is written from: its numbers are those of the code. */
const text = readFileSync(new URL('../../../docs/protocol.md', import.meta.url), 'utf8')

/** Rows of the table whose first heading is `heading`, without the line under the headings. */
function tablesOf(heading: string): string[][][] {
  const tables: string[][][] = []
  for (const block of text.split(/\n(?!\|)/)) {
    const lines = block.split('\n').filter((line) => line.startsWith('|'))
    const rows = lines.map((line) =>
      line
        .replaceAll('\\|', '¦')
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    )
    if (rows[0]?.[0] === heading) tables.push(rows.slice(2))
  }
  return tables
}

const only = (heading: string) => {
  const [table, ...more] = tablesOf(heading)
  if (table === undefined || more.length > 0) throw new Error(`there is not exactly one table of ${heading}`)
  return table
}
const number = (cell: string | undefined) => Number(cell?.replaceAll(',', ''))
const rate = (cell = '') => {
  const [perS, burst] = cell.split('/')
  return burst === undefined ? number(perS) : { perS: number(perS), burst: number(burst) }
}

/** [offset, bytes] of every field; each begins where the one before ends. */
function layoutOf(name: string): { fields: [number, number][]; total: number } {
  let total = 0
  const fields = only(`${name}: offset`).map(([offset, bytes]): [number, number] => {
    expect(number(offset), `${name} at ${offset}`).toBe(total)
    total += bytes === '…' ? 0 : number(bytes)
    return [number(offset), number(bytes)]
  })
  return { fields, total }
}

describe('docs/protocol.md', () => {
  it('has the commands and ops of the code', () => {
    const commands = only('command').map(([value, name]) => [name, number(value)])
    expect(Object.fromEntries(commands)).toEqual(COMMAND)
    const ops = only('op').map(([value, name]) => [name, number(value)])
    expect(Object.fromEntries(ops)).toEqual(OP)
  })

  it('has the limits of the code, each of them', () => {
    const [onion, p2p] = tablesOf('name')
    const values = (table: string[][] = []) => Object.fromEntries(table.map(([name, value]) => [name, rate(value)]))
    expect(values(onion)).toEqual(onionLimits)
    expect(p2pLimits).toMatchObject(values(p2p))
    expect(p2p?.length).toBeGreaterThan(20)
  })

  it('has the lengths of the code', () => {
    expect(layoutOf('CREATE').total).toBe(CREATE_BYTES)
    expect(layoutOf('CREATED').total).toBe(CREATED_BYTES)
    expect(layoutOf('control frame').total).toBe(CONTROL_FRAME_BYTES)
    expect(layoutOf('data frame').total).toBe(DATA_HEADER_BYTES)
    expect(layoutOf('CM').total).toBe(144)
    expect(layoutOf('SM').total).toBe(128)
    expect(layoutOf('header').total).toBe(22)
    const classes = /Size classes \(plaintext of a chunk, in KiB\): ([\d, ]+)\./.exec(text)?.[1]
    expect(classes?.split(', ').map((kib) => Number(kib) * 1_024)).toEqual(CHUNK_CLASSES)
    expect(text).toContain(`first ${(MAX_CHUNK_BYTES - 22).toLocaleString('en')} bytes`)
    expect(text).toContain(`next ${MAX_CHUNK_BYTES.toLocaleString('en')} bytes`)
  })

  it('has the fields of CM and SM where the code writes them', () => {
    const fill = (byte: number) => new Uint8Array(32).fill(byte)
    const cm = encodeClientMessage({
      role: 'compute',
      modelId: fill(0xa1),
      span: { start: 0xb1b1, end: 0xb2b2 },
      maxContext: 0xc1c1c1c1,
      numericsClass: fill(0xd1),
      lifetimeS: 0xe1e1e1e1,
    })
    const bytesAt = (message: Uint8Array, [offset, bytes]: [number, number]) => message.slice(offset, offset + bytes)
    const repeated = (message: Uint8Array, fields: readonly [number, number][]) =>
      fields.map((field) => {
        const found = new Set(bytesAt(message, field))
        return found.size === 1 ? [...found][0] : undefined
      })
    expect(repeated(cm, layoutOf('CM').fields)).toEqual([1, 1, 0, 0xa1, 0xb1, 0xb2, 0xc1, 1, 0xd1, 0xe1, 0])
    const sm = encodeServerMessage({
      status: 'REJECT',
      numericsClass: fill(0xa1),
      maxContext: 0xb1b1b1b1,
      idleS: 0xc1c1,
      lifeS: 0xd1d1,
      queueBytes: 0xe1e1e1e1,
    })
    expect(repeated(sm, layoutOf('SM').fields)).toEqual([2, 0, 0xa1, 0xb1, 0xc1, 0xd1, 0xe1, 0])
  })

  it('names files that are there', () => {
    for (const [, path] of text.matchAll(/`((?:tests|src)\/[\w./-]+)`/g)) {
      expect(() => readFileSync(new URL(`../../../${path}`, import.meta.url)), path).not.toThrow(/ENOENT/)
    }
  })
})
