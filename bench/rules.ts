/**
 * Which rules of exactness hold on this machine, per recipe, and what finding out costs. `--recipe i8` takes one alone.
 * Another processor can be tried under valgrind, which knows AVX2 and nothing newer (ten minutes a recipe):
 * valgrind --tool=none --smc-check=all-non-file node --no-opt --max-lazy bench/rules.ts --recipe i8
 */
import { toHex } from '../src/base/bytes.ts'
import { openOrt } from '../src/shard/ort.ts'
import { examineWith } from '../src/shard/probe.ts'
import { parseRecipe } from '../src/shard/recipe.ts'
import { benchOptions, reportFigures } from './lib/harness.ts'
import { cpuFeatures } from './lib/machine.ts'

const options = benchOptions()
const at = process.argv.indexOf('--recipe')
const names = at < 0 ? ['f32', 'q8', 'q4', 'i8'] : [process.argv[at + 1] ?? '']
const figures: Record<string, number> = {}

console.log(`${openOrt().version}; ${cpuFeatures().join(' ')}\n`)
console.log('recipe  class         ms   rules that do not hold')
for (const name of names) {
  const startMs = performance.now()
  const { numericsClass, broken } = await examineWith(openOrt, parseRecipe(name), 'cpu')
  const ms = performance.now() - startMs
  figures[`ms_${name}`] = Math.round(ms)
  figures[`broken_${name}`] = broken.length
  const shortClass = toHex(numericsClass).slice(0, 12)
  console.log(`${name.padEnd(7)} ${shortClass} ${ms.toFixed(0).padStart(5)}  ${broken.join(', ') || 'none'}`)
}
reportFigures('rules', figures, options)
