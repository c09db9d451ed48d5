import type { Argv, CommandModule } from 'yargs'
import { LlmNodeError } from '../../base/errors.ts'
import type { CatalogueModel } from '../../node/catalogue.ts'
import type { Home } from '../../node/home.ts'
import { type GlobalArguments, homeOf } from '../context.ts'
import { interruptSignal } from '../interrupt.ts'
import { formatBytes, formatTable, printJson, printLine, printNotice } from '../output.ts'
import { createProgressLine } from '../progress.ts'

interface ModelsArguments extends GlobalArguments {
  action: string
  name?: string | undefined
  all: boolean
  repair: boolean
}

export const modelsCommand: CommandModule<GlobalArguments, ModelsArguments> = {
  command: 'models <action> [name]',
  describe: 'Models on this machine: ls, pull, rm, verify, info',
  builder: (yargs): Argv<ModelsArguments> =>
    yargs
      .positional('action', { type: 'string', choices: ['ls', 'pull', 'rm', 'verify', 'info'], demandOption: true })
      .positional('name', { type: 'string', describe: 'Name of a model' })
      .option('all', { type: 'boolean', default: false, describe: 'ls: the catalogue of open models too' })
      .option('repair', { type: 'boolean', default: false, describe: 'verify: fetch what is damaged again' }),
  async handler(argv) {
    const home = homeOf(argv)
    switch (argv.action) {
      case 'ls':
        return list(home, argv)
      case 'verify':
        return verify(home, argv)
      case 'pull':
        return pull(home, named(argv), argv)
      case 'rm': {
        const { removeModel } = await import('../../node/models.ts')
        const { name, folder } = await removeModel(home, named(argv))
        return argv.json ? printJson('models', { removed: name, folder }) : printLine(`${name} is gone.`)
      }
      default:
        return info(named(argv), argv)
    }
  },
}

function named({ action, name }: ModelsArguments): string {
  if (name !== undefined) return name
  throw new LlmNodeError('BAD_INPUT', `Say which model: llm-node models ${action} NAME`)
}

async function list(home: Home, argv: ModelsArguments): Promise<void> {
  const { listModels } = await import('../../node/models.ts')
  const { readCatalogue } = await import('../../node/catalogue.ts')
  const held = await listModels(home)
  const catalogue = argv.all ? await readCatalogue() : []
  if (argv.json) return printJson('models', { models: held, ...(argv.all ? { catalogue } : {}) })
  if (held.length === 0) printLine('This home holds no model yet: llm-node setup')
  else {
    const rows = held.map(({ name, recipe, layers, nLayers, ends, bytes, problem }) => [
      name,
      recipe,
      layers === null ? 'none' : `${layers}${nLayers === null ? '' : ` of ${nLayers}`}`,
      ends ? 'yes' : 'no',
      bytes === null ? '-' : formatBytes(bytes),
      problem ?? 'ok',
    ])
    printLine(formatTable(['model', 'recipe', 'layers', 'ends', 'size', 'state'], rows))
  }
  if (!argv.all) return
  printLine()
  const rows = catalogue.map((model) => [
    model.repository,
    `${model.nLayers}`,
    formatBytes(model.sizes['i8/1'].layerBytes),
    formatBytes(model.sizes['q4/1'].layerBytes),
    `${model.licence}${model.gated ? ' (needs HF_TOKEN)' : ''}`,
  ])
  printLine(formatTable(['repository', 'layers', 'a layer in i8', 'in q4', 'licence'], rows))
}

async function verify(home: Home, argv: ModelsArguments): Promise<void> {
  const { verifyModels } = await import('../../node/models.ts')
  const signal = interruptSignal()
  const results = await verifyModels(home, argv.name, { forget: argv.repair, signal })
  const bad = results.filter(({ sound }) => !sound)
  if (argv.repair) for (const { name } of bad) await fetchMissing(home, name)
  const sound = bad.length === 0 || argv.repair
  if (!sound) process.exitCode = 4
  if (argv.json)
    return printJson('models', { sound, repaired: argv.repair ? bad.map(({ name }) => name) : [], results })
  for (const { name, files, sound: good } of results) {
    if (good) printLine(`${name}: ${files.length} files, all sound.`)
    for (const file of files) if (file.state !== 'sound') printLine(`${name}: ${file.name} is ${file.state}.`)
  }
  if (results.length === 0) printLine('This home holds no model yet.')
  if (!sound) printNotice('Fetch what is damaged again with: llm-node models verify --repair')
}

async function pull(home: Home, name: string, argv: ModelsArguments): Promise<void> {
  const { entry } = await fetchMissing(home, name)
  if (argv.json) return printJson('models', { model: entry })
  printLine(`${entry.name}: ${entry.layers === null ? 'the ends' : `layers ${entry.layers}`} complete.`)
}

async function fetchMissing(home: Home, name: string) {
  const { completeModel } = await import('../../node/models.ts')
  const progress = createProgressLine('fetching')
  return completeModel(home, name, {
    signal: interruptSignal(),
    onProgress: ({ bytesDone, bytesTotal }) => progress.update(bytesDone, bytesTotal),
  }).finally(() => progress.done())
}

async function info(name: string, argv: ModelsArguments): Promise<void> {
  const { catalogueModel } = await import('../../node/models.ts')
  const model = await catalogueModel(name)
  if (argv.json) return printJson('models', { model })
  printModel(model)
}

function printModel({ repository, licence, gated, nLayers, maxContext, kvBytesPerToken, sizes }: CatalogueModel): void {
  printLine(
    `${repository}: ${nLayers} layers, context ${maxContext}, licence ${licence}${gated ? ', needs HF_TOKEN' : ''}`,
  )
  const rows = Object.entries(sizes).map(([recipe, { layerBytes, endsBytes, totalBytes }]) => [
    recipe,
    formatBytes(layerBytes),
    formatBytes(endsBytes),
    formatBytes(totalBytes),
  ])
  printLine(formatTable(['recipe', 'a layer', 'the ends', 'all of it'], rows))
  printLine(`Keys and values: ${formatBytes(kvBytesPerToken)} a token and layer.`)
}
