/** docs/adding-a-model.md says what is there: families on the disk, in the list, in the table, with golden models. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { parseModelConfig } from '../../../src/model/config.ts'
import type { Family } from '../../../src/model/families/decoder.ts'

const text = readFileSync('docs/adding-a-model.md', 'utf8')
const rows = [...text.matchAll(/^\| `(\w+)` +\| `([\w/.-]+)` +\| (.+?) +\|$/gm)].map(([, type, file, fixtures]) => ({
  type: type ?? '',
  file: file ?? '',
  fixtures: [...(fixtures ?? '').matchAll(/`([\w-]+)`/g)].map(([, name]) => name ?? ''),
}))
const files = readdirSync('src/model/families').filter((name) => name !== 'decoder.ts')

test('every family is a file, exports itself under its name, and has a row', async () => {
  expect(rows.map(({ file }) => file).toSorted()).toEqual(files.map((name) => `src/model/families/${name}`).toSorted())
  for (const { type, file } of rows) {
    const module = (await import(join(process.cwd(), file))) as Record<string, Family>
    expect(module[type]?.modelType).toBe(type)
  }
})

test('every golden model belongs to a family of the table, and the family reads it', () => {
  const entries = readdirSync('tests/golden', { withFileTypes: true })
  const fixtures = entries.filter((entry) => entry.isDirectory() && entry.name !== 'tokenizers').map(({ name }) => name)
  expect(rows.flatMap((row) => row.fixtures).toSorted()).toEqual(fixtures.toSorted())
  for (const { type, fixtures: own } of rows) {
    for (const name of own) {
      const config = JSON.parse(readFileSync(`tests/golden/${name}/config.json`, 'utf8'))
      expect(parseModelConfig(config).family).toBe(type)
    }
  }
})

test('everything that it names exists', () => {
  const paths = [...text.matchAll(/`((?:src|tests|models)\/[\w./-]+\w)`/g)].map(([, path]) => path ?? '')
  expect(paths.length).toBeGreaterThan(8)
  for (const path of paths) expect(() => readFileSync(path), path).not.toThrow(/ENOENT/)
  const config =
    readFileSync('src/model/families/decoder.ts', 'utf8') + readFileSync('src/model/rope-config.ts', 'utf8')
  for (const name of ['parseSizes', 'separateLayer', 'linear', 'parseRope']) {
    expect(text).toContain(`\`${name}`)
    expect(config).toContain(`export function ${name}(`)
  }
})
