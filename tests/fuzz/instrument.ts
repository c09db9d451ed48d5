/**
 * Coverage for the fuzzer: a load hook puts a counter before every statement and branch of `src/**` and watches how close
 * comparisons come to being equal, as libFuzzer's value profile does. (jazzer.js ships no binary for glibc below 2.38.)
 */
import { readFileSync } from 'node:fs'
import { registerHooks, stripTypeScriptTypes } from 'node:module'
import { fileURLToPath } from 'node:url'
import { parseAst } from 'vite'

const SOURCES = new URL('../../src/', import.meta.url).href
const MAX_POINTS = 65_536
/** Distances of one comparison: 0 equal, 1–64 by size, 65 incomparable. */
const DISTANCES = 66
const COMPARISONS: ReadonlySet<string> = new Set(['===', '!==', '<', '<=', '>', '>='])

interface Edit {
  readonly at: number
  readonly text: string
  /** Closing text goes before opening text at the same place. */
  readonly rank: number
  readonly drop: number
}

interface Node {
  readonly type: string
  readonly start: number
  readonly end: number
  readonly [field: string]: unknown
}

export interface Coverage {
  /** Forgets the last run. */
  reset(): void
  /** Calls `see` with a number for everything that the last run did; below `edges` they are places, above comparisons. */
  features(see: (feature: number) => void): void
  readonly edges: number
  readonly total: number
}

/** From now on modules under src/ count. Once per process, before anything of src/ is imported. */
export function startCoverage(): Coverage {
  const counters = new Uint8Array(MAX_POINTS)
  const words = new BigUint64Array(counters.buffer)
  const near = new Set<number>()
  let nPoints = 0
  let nComparisons = 0
  const point = () => {
    if (nPoints >= MAX_POINTS) throw new Error('too many places to count')
    return nPoints++
  }
  const compare = (id: number, operator: string, left: unknown, right: unknown): boolean => {
    near.add(id * DISTANCES + distance(left, right))
    return decide(operator, left as number, right as number)
  }
  Object.assign(globalThis, { __fuzzPoints: counters, __fuzzCompare: compare })
  registerHooks({
    load(url, context, next) {
      if (!url.startsWith(SOURCES) || !url.endsWith('.ts')) return next(url, context)
      const code = stripTypeScriptTypes(readFileSync(fileURLToPath(url), 'utf8'))
      return { format: 'module', source: instrument(code, point, () => nComparisons++), shortCircuit: true }
    },
  })
  const edges = MAX_POINTS * 8
  return {
    edges,
    total: edges + MAX_POINTS * DISTANCES,
    reset() {
      counters.fill(0)
      near.clear()
    },
    features(see) {
      for (let word = 0; word * 8 < nPoints; word++) {
        if (words[word] === 0n) continue
        for (let i = word * 8; i < word * 8 + 8; i++) {
          const count = counters[i] ?? 0
          if (count > 0) see(i * 8 + bucketOf(count))
        }
      }
      for (const feature of near) see(edges + feature)
    },
  }
}

/** 1, 2, 3, 4–7, 8–15, 16–31, 32–127, more. */
function bucketOf(count: number): number {
  if (count < 4) return count - 1
  return count < 8 ? 3 : count < 16 ? 4 : count < 32 ? 5 : count < 128 ? 6 : 7
}

function distance(left: unknown, right: unknown): number {
  if (left === right) return 0
  if (typeof left === 'number' && typeof right === 'number') {
    return Math.min(64, 1 + Math.floor(Math.log2(1 + Math.abs(left - right) || 1)))
  }
  if (typeof left === 'string' && typeof right === 'string') {
    let same = 0
    while (same < 63 && same < left.length && left[same] === right[same]) same++
    return 64 - same
  }
  return DISTANCES - 1
}

function decide(operator: string, left: number, right: number): boolean {
  if (operator === '===') return left === right
  if (operator === '!==') return left !== right
  if (operator === '<') return left < right
  if (operator === '<=') return left <= right
  return operator === '>' ? left > right : left >= right
}

function instrument(code: string, point: () => number, comparison: () => number): string {
  const edits: Edit[] = []
  const open = (at: number, text: string) => edits.push({ at, text, rank: 1, drop: 0 })
  const close = (at: number, text: string) => edits.push({ at, text, rank: 0, drop: 0 })
  const count = () => `__fuzzPoints[${point()}]++`
  const visit = (node: Node) => {
    for (const statement of statementsOf(node)) open(statement.start, `${count()};`)
    const later: (() => void)[] = []
    for (const part of bareBodies(node)) {
      open(part.start, `{${count()};`)
      later.push(() => close(part.end, '}'))
    }
    for (const part of branches(node)) {
      open(part.start, `(${count()},`)
      later.push(() => close(part.end, ')'))
    }
    if (node.type === 'BinaryExpression' && COMPARISONS.has(String(node.operator))) {
      const [left, right] = [node.left as Node, node.right as Node]
      const operator = String(node.operator)
      const at = code.indexOf(operator, left.end)
      if (at >= 0 && at < right.start) {
        open(node.start, `__fuzzCompare(${comparison()},'${operator}',`)
        edits.push({ at, text: ',', rank: 1, drop: operator.length })
        later.push(() => close(node.end, ')'))
      }
    }
    for (const child of childrenOf(node)) visit(child)
    for (const run of later) run()
  }
  visit(parseAst(code) as unknown as Node)
  return apply(code, edits)
}

function apply(code: string, edits: readonly Edit[]): string {
  let out = ''
  let at = 0
  for (const edit of [...edits].sort((a, b) => a.at - b.at || a.rank - b.rank)) {
    out += code.slice(at, edit.at) + edit.text
    at = edit.at + edit.drop
  }
  return out + code.slice(at)
}

function isNode(value: unknown): value is Node {
  return typeof value === 'object' && value !== null && typeof (value as { type?: unknown }).type === 'string'
}

function childrenOf(node: Node): Node[] {
  return Object.values(node).flatMap((value) =>
    Array.isArray(value) ? value.filter(isNode) : isNode(value) ? [value] : [],
  )
}

function statementsOf(node: Node): readonly Node[] {
  if (node.type === 'BlockStatement') return node.body as Node[]
  return node.type === 'SwitchCase' ? (node.consequent as Node[]) : []
}

/** Bodies of branches and loops without braces. */
function bareBodies(node: Node): Node[] {
  const parts =
    node.type === 'IfStatement'
      ? [node.consequent, node.alternate]
      : /^(For|While|Do)/.test(node.type)
        ? [node.body]
        : []
  return parts.filter(isNode).filter((part) => part.type !== 'BlockStatement')
}

function branches(node: Node): Node[] {
  if (node.type === 'ConditionalExpression') return [node.consequent, node.alternate].filter(isNode)
  if (node.type === 'LogicalExpression') return [node.right].filter(isNode)
  const isShort = node.type === 'ArrowFunctionExpression' && node.expression === true
  return isShort ? [node.body].filter(isNode) : []
}
