/** Holds the rules of layout: who may import whom, no cycles, small files, and who may touch what. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, posix, sep } from 'node:path'
import { describe, expect, test } from 'vitest'

/** The rooms below each room. A name ending in ":types" allows `import type` only. */
const mayImport: Readonly<Record<string, readonly string[]>> = {
  'src/cli': ['src/node', 'src/api:types', 'src/base'],
  'src/node': ['src/api', 'src/pipeline', 'src/coverage', 'src/onion', 'src/shard', 'src/model', 'src/p2p', 'src/base'],
  'src/api': ['src/pipeline', 'src/coverage', 'src/base'],
  'src/pipeline': ['src/coverage', 'src/onion', 'src/shard', 'src/model', 'src/base'],
  'src/coverage': ['src/p2p', 'src/model', 'src/base'],
  'src/onion': ['src/p2p', 'src/base'],
  'src/shard': ['src/model', 'src/base'],
  'src/model': ['src/base'],
  'src/p2p': ['src/base'],
  'src/base': [],
  web: ['src/api:types'],
  bootstrap: ['src/p2p', 'src/onion', 'src/base'],
}

/** Rooms whose code computes on plain data: files, sockets and clocks are somebody else's. */
const pureRooms = ['src/model', 'src/coverage']
const inputOutput = /^node:(fs|net|http|https|http2|dns|dgram|tls|child_process|worker_threads|timers)(\/|$)/
/** Primitives whose use has to be reviewed in one place. Hashing is everybody's. */
const cryptoPrimitives = /^@noble\/(curves|ciphers)|^@libp2p\/crypto/
const cryptoRooms = ['src/onion', 'src/p2p']

interface Import {
  readonly from: string
  readonly typeOnly: boolean
}

/** Source files by path from the repository's root, with forward slashes. */
type Sources = ReadonlyMap<string, string>

/** The modules that `source` names: import and export … from, import '…', import('…'). Comments are skipped. */
function importsOf(source: string): Import[] {
  const code = source.replaceAll(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '')
  const statement = /^[ \t]*(?:import|export)\s+(type\s+)?(?:[\w$*\s{},]*?\sfrom\s*)?['"]([^'"\n]+)['"]/gm
  const imports = Array.from(code.matchAll(statement), ([, type, from]) => ({
    from: from ?? '',
    typeOnly: type !== undefined,
  }))
  for (const [, from] of code.matchAll(/\bimport\(\s*['"]([^'"\n]+)['"]/g)) {
    imports.push({ from: from ?? '', typeOnly: false })
  }
  return imports
}

const roomOf = (path: string) => Object.keys(mayImport).find((room) => path.startsWith(`${room}/`))
const isRelative = (name: string) => name.startsWith('.')
const targetOf = (path: string, name: string) => posix.join(posix.dirname(path), name)

function breachOf(path: string, { from, typeOnly }: Import): string | undefined {
  const room = roomOf(path)
  if (room === undefined) return undefined
  if (!isRelative(from)) {
    if (cryptoPrimitives.test(from) && !cryptoRooms.includes(room)) return `${path} uses crypto primitives: ${from}`
    if (inputOutput.test(from) && pureRooms.includes(room)) return `${path} is to be pure, but imports ${from}`
    return undefined
  }
  const target = targetOf(path, from)
  const targetRoom = roomOf(target)
  if (targetRoom === room) return undefined
  const allowed = (mayImport[room] ?? []).some((entry) => {
    const [name, kind] = entry.split(':')
    return name === targetRoom && (kind === undefined || typeOnly)
  })
  return allowed ? undefined : `${path} must not import ${target}`
}

function importBreaches(sources: Sources): string[] {
  return [...sources].flatMap(([path, source]) => importsOf(source).flatMap((each) => breachOf(path, each) ?? []))
}

/** One line per cycle found, as "a → b → a". Type imports count: a contract in a circle is as hard to read. */
function cyclesOf(sources: Sources): string[] {
  const cycles: string[] = []
  const state = new Map<string, 'open' | 'done'>()
  const visit = (path: string, trail: readonly string[]) => {
    if (state.get(path) === 'done') return
    if (state.get(path) === 'open') {
      cycles.push([...trail.slice(trail.indexOf(path)), path].join(' → '))
      return
    }
    state.set(path, 'open')
    for (const { from } of importsOf(sources.get(path) ?? '')) {
      const target = targetOf(path, from)
      if (isRelative(from) && sources.has(target)) visit(target, [...trail, path])
    }
    state.set(path, 'done')
  }
  for (const path of sources.keys()) visit(path, [])
  return cycles
}

function styleBreaches(sources: Sources): string[] {
  return [...sources].flatMap(([path, source]) => {
    const breaches: string[] = []
    const nLines = source.trimEnd().split('\n').length
    if (nLines > 400) breaches.push(`${path} has ${nLines} lines`)
    if (/^export default\b/m.test(source)) breaches.push(`${path} has a default export`)
    if (!path.startsWith('src/cli/') && /^(?!\s*(\*|\/\/|\/\*)).*\bconsole\./m.test(source)) {
      breaches.push(`${path} writes to the console`)
    }
    const reexports = /^export (?:\*|\{[^}]*\}) from/m.test(source)
    if (reexports && /(^|\/)index\.ts$/.test(path)) breaches.push(`${path} is a barrel`)
    if (!/^[a-z0-9]+([-.][a-z0-9]+)*\.tsx?$/.test(posix.basename(path))) breaches.push(`${path} is not kebab-case`)
    return breaches
  })
}

function readSources(): Sources {
  const root = dirname(import.meta.dirname)
  const sources = new Map<string, string>()
  for (const folder of ['src', 'bootstrap', 'web'].filter((name) => existsSync(join(root, name)))) {
    for (const entry of readdirSync(join(root, folder), { recursive: true, withFileTypes: true })) {
      if (!entry.isFile() || !/\.tsx?$/.test(entry.name)) continue
      const path = join(entry.parentPath, entry.name)
      if (path.includes('node_modules')) continue
      sources.set(path.slice(root.length + 1).replaceAll(sep, '/'), readFileSync(path, 'utf8'))
    }
  }
  return sources
}

describe('the repository', () => {
  const sources = readSources()

  test('has sources in every room of src', () => {
    const rooms = new Set([...sources.keys()].map(roomOf))
    expect([...rooms].filter((room) => room === undefined)).toEqual([])
    expect(sources.size).toBeGreaterThan(20)
  })

  test('imports only downwards, keeps crypto in its rooms and pure rooms pure', () => {
    expect(importBreaches(sources)).toEqual([])
  })

  test('has no cycle of imports', () => {
    expect(cyclesOf(sources)).toEqual([])
  })

  test('keeps files small, exports named, the console to the commands', () => {
    expect(styleBreaches(sources)).toEqual([])
  })
})

describe('the checks see', () => {
  test.each([
    ['an import upwards', 'src/base/a.ts', "import { b } from '../model/b.ts'"],
    ['an import past a room', 'src/cli/a.ts', "import { b } from '../shard/b.ts'"],
    ['an import over several lines', 'src/model/a.ts', "import {\n  type B,\n  c,\n} from '../shard/b.ts'"],
    ['a re-export', 'src/model/a.ts', "export * from '../shard/b.ts'"],
    ['a type import where none is allowed', 'src/base/a.ts', "import type { B } from '../model/b.ts'"],
    ['a value where only types are allowed', 'src/cli/a.ts', "import { b } from '../api/b.ts'"],
    ['a bare import', 'src/base/a.ts', "import '../model/b.ts'"],
    ['an import at run time', 'src/base/a.ts', "const b = await import('../model/b.ts')"],
    ['an import of a test', 'src/base/a.ts', "import { b } from '../../tests/b.ts'"],
    ['crypto elsewhere', 'src/shard/a.ts', "import { x25519 } from '@noble/curves/ed25519.js'"],
    ['files in a pure room', 'src/model/a.ts', "import { readFile } from 'node:fs/promises'"],
  ])('%s', (_what, path, source) => {
    expect(importBreaches(new Map([[path, source]]))).toHaveLength(1)
  })

  test.each([
    ['a room below', 'src/model/a.ts', "import { b } from '../base/b.ts'"],
    ['types of the API', 'src/cli/a.ts', "import type { B } from '../api/b.ts'"],
    ['the own room', 'src/model/families/a.ts', "import { b } from '../b.ts'"],
    ['a word in a comment', 'src/base/a.ts', "// import { b } from '../model/b.ts'\n/* import '../model/b.ts' */"],
  ])('nothing wrong with %s', (_what, path, source) => {
    expect(importBreaches(new Map([[path, source]]))).toEqual([])
  })

  test('cycles, through types as well', () => {
    const sources = new Map([
      ['src/base/a.ts', "import { b } from './b.ts'"],
      ['src/base/b.ts', "import type { C } from './c.ts'"],
      ['src/base/c.ts', "export { a } from './a.ts'"],
      ['src/base/d.ts', "import { a } from './a.ts'"],
    ])
    expect(cyclesOf(sources)).toEqual(['src/base/a.ts → src/base/b.ts → src/base/c.ts → src/base/a.ts'])
  })

  test.each([
    ['long files', 'src/base/a.ts', 'x\n'.repeat(401)],
    ['default exports', 'src/base/a.ts', 'export default 1'],
    ['writing to the console', 'src/node/a.ts', "  console.log('x')"],
    ['barrels', 'src/base/index.ts', "export { a } from './a.ts'"],
    ['other names', 'src/base/someThing.ts', ''],
  ])('%s', (_what, path, source) => {
    expect(styleBreaches(new Map([[path, source]]))).toHaveLength(1)
  })
})
