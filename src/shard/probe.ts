import { createHash, randomBytes } from 'node:crypto'
import { checkRules, type Rule } from './exactness-rules.ts'
import { graphVersion } from './graph.ts'
import { type OrtRuntime, openOrt, type Provider } from './ort.ts'
import { bytesOf, probeSpec } from './probe-model.ts'
import type { RecipeId } from './recipe.ts'
import { ropeTable } from './rope.ts'

/** Part of the numerics class: a probe that asks other questions is another version. */
const probeVersion = 2

export interface ProbeOptions {
  /** Another libonnxruntime than the bundled one. */
  readonly library?: string | undefined
  /** Default: cpu. */
  readonly provider?: Provider | undefined
}

/** What this machine's engine can promise for a recipe. */
export interface EngineExam {
  /** 32 bytes. Nodes of one class compute the same bits (engine.md §6). */
  readonly numericsClass: Uint8Array
  /** Rules of exactness that do not hold here. */
  readonly broken: readonly Rule[]
  /** A row's bits depend on the row alone. Otherwise the class is one that nobody shares, not even this node later. */
  readonly exact: boolean
  /** Results depend on the number of threads: only one keeps the promise. */
  readonly singleThread: boolean
}

const exams = new Map<string, Promise<EngineExam>>()

/**
 * Checks the rules of exactness on this machine and names its numerics class. Once per process, library, provider and
 * recipe, in well under a second. Throws ENGINE_UNAVAILABLE or ENGINE_FAILED.
 */
export function examineEngine(recipe: RecipeId, options: ProbeOptions = {}): Promise<EngineExam> {
  const { library, provider = 'cpu' } = options
  const key = `${recipe} ${provider} ${library ?? ''}`
  const known = exams.get(key) ?? examineWith(() => openOrt(library), recipe, provider)
  exams.set(key, known)
  // A failure may pass (memory); it is not remembered.
  known.catch(() => exams.delete(key))
  return known
}

/** The same with a given runtime, every time anew. */
export async function examineWith(open: () => OrtRuntime, recipe: RecipeId, provider: Provider): Promise<EngineExam> {
  const ort = open()
  const { broken, output } = await checkRules({ ort, recipe, provider })
  const singleThread = broken.includes('threads')
  const exact = broken.every((rule) => rule === 'threads')
  const hash = createHash('sha256')
  hash.update(`llm-node/numerics/${probeVersion}|${ort.version}|${provider}|${recipe}|${graphVersion}\0`)
  hash.update(output)
  // The language's own sine and cosine are part of what has to agree.
  const { cos, sin } = ropeTable(probeSpec().rope, 'short', 4_096)
  hash.update(bytesOf(cos)).update(bytesOf(sin))
  // Bits that depend on chance agree with nobody's.
  if (!exact) hash.update(randomBytes(32))
  return { numericsClass: new Uint8Array(hash.digest()), broken, exact, singleThread }
}

/** The numerics class alone: 32 bytes. Throws as examineEngine. */
export async function numericsClass(recipe: RecipeId, options: ProbeOptions = {}): Promise<Uint8Array> {
  return (await examineEngine(recipe, options)).numericsClass
}
