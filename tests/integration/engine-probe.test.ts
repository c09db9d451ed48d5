import { expect, test } from 'vitest'
import { toHex } from '../../src/base/bytes.ts'
import { type Rule, rules } from '../../src/shard/exactness-rules.ts'
import { type OrtBinding, type OrtRuntime, type OrtTensor, openOrt } from '../../src/shard/ort.ts'
import { examineEngine, examineWith, numericsClass } from '../../src/shard/probe.ts'
import { recipeIds } from '../../src/shard/recipe.ts'

test('the numerics class: 32 bytes, one per recipe, once per process', async () => {
  const classes = await Promise.all(recipeIds.map((recipe) => numericsClass(recipe)))
  expect(classes.every((id) => id.length === 32)).toBe(true)
  expect(new Set(classes.map(toHex)).size).toBe(recipeIds.length)
  expect(examineEngine('i8/1')).toBe(examineEngine('i8/1'))
})

test.each(recipeIds)('%s: every rule of exactness holds on this machine', async (recipe) => {
  const exam = await examineWith(openOrt, recipe, 'cpu')
  expect(exam).toMatchObject({ broken: [], exact: true, singleThread: false })
  expect(toHex(exam.numericsClass)).toBe(toHex(await numericsClass(recipe)))
})

test('to find out takes less than a second', async () => {
  const times: number[] = []
  // The processor's time and the best of three: other tests run beside this one. It takes 0.3 s.
  for (let i = 0; i < 3; i++) {
    const start = process.cpuUsage()
    await examineWith(openOrt, 'i8/1', 'cpu')
    const { user, system } = process.cpuUsage(start)
    times.push((user + system) / 1_000)
  }
  expect(Math.min(...times)).toBeLessThan(1_000)
})

/** What a faulty kernel does to the result of a run: `rows` is that of the run, `threads` that of its session. */
interface Run {
  readonly inputs: ReadonlyMap<string, OrtTensor>
  readonly output: Float32Array
  readonly rows: number
  readonly threads: number
}

/** The real runtime with something wrong after every run. */
function faultyOrt(spoil: (run: Run) => void): OrtRuntime {
  const ort = openOrt()
  return {
    version: ort.version,
    checkProvider: (provider) => ort.checkProvider(provider),
    createTensor: (type, dims) => ort.createTensor(type, dims),
    async createSession(model, options) {
      const session = await ort.createSession(model, options)
      const createBinding = (): OrtBinding => {
        const binding = session.createBinding()
        const inputs = new Map<string, OrtTensor>()
        const outputs = new Map<string, OrtTensor>()
        const after = () => {
          const output = outputs.get('out') ?? outputs.get('logits')
          if (output === undefined) return
          const rows = output.dims[1] ?? 0
          spoil({ inputs, output: new Float32Array(output.memory), rows, threads: options.threads })
        }
        return {
          ...binding,
          input: (name, tensor, fixed) => binding.input(name, inputs.set(name, tensor).get(name) ?? tensor, fixed),
          output: (name, tensor) => binding.output(name, outputs.set(name, tensor).get(name) ?? tensor),
          run: () => binding.run().then(after),
          runHere() {
            binding.runHere()
            after()
          },
        }
      }
      return { ...session, createBinding }
    },
  }
}

const nudge = (output: Float32Array) => {
  const bits = new Uint32Array(output.buffer, output.byteOffset, output.length)
  bits[0] = (bits[0] ?? 0) ^ 1
}
const isHead = ({ inputs }: Run) => !inputs.has('cos')

test.each<[Rule, (run: Run) => void]>([
  ['rows', (run) => run.rows === 66 && !isHead(run) && nudge(run.output)],
  ['span', (run) => run.inputs.get('L0.on') !== run.inputs.get('L1.on') && nudge(run.output)],
  ['head', (run) => run.rows < 41 && isHead(run) && nudge(run.output)],
  ['products', (run) => isHead(run) && run.output.fill(128)],
])('a machine whose kernels break "%s" promises nothing', async (rule, spoil) => {
  const exam = await examineWith(() => faultyOrt(spoil), 'i8/1', 'cpu')
  expect(exam.broken).toContain(rule)
  expect(Object.keys(rules)).toContain(rule)
  expect(exam.exact).toBe(false)
  const again = await examineWith(() => faultyOrt(spoil), 'i8/1', 'cpu')
  expect(toHex(again.numericsClass)).not.toBe(toHex(exam.numericsClass))
})

test('a machine whose threads change the bits keeps its class, with one thread', async () => {
  const exam = await examineWith(() => faultyOrt((run) => run.threads > 1 && nudge(run.output)), 'q4/1', 'cpu')
  expect(exam).toMatchObject({ broken: ['threads'], exact: true, singleThread: true })
  expect(toHex(exam.numericsClass)).toBe(toHex(await numericsClass('q4/1')))
})

test('a library that cannot be loaded is said so, every time', async () => {
  const first = numericsClass('i8/1', { library: 'package.json' })
  await expect(first).rejects.toMatchObject({ code: 'ENGINE_UNAVAILABLE' })
  await expect(numericsClass('i8/1', { library: 'package.json' })).rejects.toMatchObject({ code: 'ENGINE_UNAVAILABLE' })
})
