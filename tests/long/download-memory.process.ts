/** Fetches and packs a model from a server, and says how much memory that took at most: SOURCE FOLDER RECIPE LAYERS. */
import { readFileSync } from 'node:fs'
import { downloadModel } from '../../src/shard/download.ts'
import { createWebFolderSource } from '../../src/shard/http-source.ts'
import { parseRecipe } from '../../src/shard/recipe.ts'

const [base = '', folder = '', recipe = '', layers = ''] = process.argv.slice(2)
const source = createWebFolderSource({ base })
const one = { source, recipe: parseRecipe(recipe), ends: false }
// The smallest download first: what the program and its packing thread take, whatever the size of a layer.
await downloadModel({ ...one, folder: `${folder}-small`, span: null, ends: true })
const peakKib = () => Number(/^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1])
const before = peakKib()
await downloadModel({ ...one, folder, span: { start: 0, end: Number(layers) } })
process.stdout.write(JSON.stringify({ before: before * 1_024, after: peakKib() * 1_024 }))
