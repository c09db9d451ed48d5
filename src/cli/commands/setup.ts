import { fileURLToPath } from 'node:url'
import type { Argv, CommandModule } from 'yargs'
import type { ModelEntry } from '../../base/config.ts'
import { type GlobalArguments, homeOf } from '../context.ts'
import { interruptSignal } from '../interrupt.ts'
import { formatBytes, printJson, printLine, printNotice } from '../output.ts'
import { createProgressLine } from '../progress.ts'

interface SetupArguments extends GlobalArguments {
  model?: string | undefined
  layers: string
  ends?: boolean | undefined
  recipe?: string | undefined
  network?: string | undefined
  yes: boolean
  client?: string | undefined
}

/** The model that comes with the program: enough to try everything. */
const bundledModel = () => fileURLToPath(new URL('../../../models/demo-qwen3', import.meta.url))

export const setupCommand: CommandModule<GlobalArguments, SetupArguments> = {
  command: 'setup',
  describe: 'Fetch the layers this node shall hold',
  builder: (yargs): Argv<SetupArguments> =>
    yargs
      .option('model', { type: 'string', describe: 'Repository, http(s) folder or folder (default: the demo model)' })
      .option('layers', { type: 'string', default: 'all', describe: 'Layers to hold: 4-7, all or none' })
      .option('ends', { type: 'boolean', describe: 'Hold embedding, head and tokenizer, to ask (default: yes)' })
      .option('recipe', { type: 'string', choices: ['i8', 'q4', 'q8', 'f32'], describe: 'How weights are kept' })
      .option('network', { type: 'string', describe: 'Name of the network to take part in' })
      .option('yes', { type: 'boolean', default: false, describe: 'Ask nothing (nothing is asked yet)' })
      .option('client', { type: 'string', hidden: true }),
  async handler(argv) {
    const home = homeOf(argv)
    const { loadConfig } = await import('../../node/home.ts')
    const { setupModel } = await import('../../node/setup.ts')
    const { defaultRecipe } = await import('../../node/default-recipe.ts')
    const config = await loadConfig(home, {
      env: {},
      ...(argv.network === undefined ? {} : { overrides: { network: { name: argv.network } } }),
    })
    const recipe = (argv.recipe as ModelEntry['recipe'] | undefined) ?? (await defaultRecipe())
    const progress = createProgressLine('fetching')
    const { entry, holding } = await setupModel(home, config, {
      model: argv.model ?? bundledModel(),
      layers: argv.layers,
      ends: argv.ends ?? true,
      recipe,
      clientName: argv.client,
      signal: interruptSignal(),
      onProgress: ({ bytesDone, bytesTotal }) => progress.update(bytesDone, bytesTotal),
    }).finally(() => progress.done())
    if (argv.json) {
      const { name, layers, ends, source } = entry
      const modelId = holding.modelIdHex
      return printJson('setup', {
        model: { name, source, modelId, recipe, layers, ends, nLayers: holding.spec.nLayers },
      })
    }
    const bytes = [...holding.layers.values()].reduce((sum, layer) => sum + layer.bytes, 0)
    const held = entry.layers === null ? 'no layers' : `layers ${entry.layers} of ${holding.spec.nLayers}`
    printLine(`${entry.name}: ${held} (${formatBytes(bytes)}, ${recipe})${entry.ends ? ' and the ends' : ''}.`)
    printLine(entry.layers === null ? 'Ask with: llm-node ask "…"' : 'Start serving with: llm-node start')
    printNotice('A node that computes layers for you can reconstruct your prompt and the answer; see the README.')
  },
}
