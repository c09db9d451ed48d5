import type { Argv, CommandModule } from 'yargs'
import type { Config, ModelEntry } from '../../base/config.ts'
import { LlmNodeError } from '../../base/errors.ts'
import { formatSpan } from '../../base/span.ts'
import type { Home } from '../../node/home.ts'
import type { PendingSetup } from '../../node/pending-setup.ts'
import type { Plan } from '../../node/plan.ts'
import type { SetupResult } from '../../node/setup.ts'
import { type GlobalArguments, homeOf, type ProviderName, providerOption } from '../context.ts'
import { interruptSignal } from '../interrupt.ts'
import { formatBytes, printJson, printLine, printNotice } from '../output.ts'
import { describeDownload, describeFit, describeMachine, describeSelfTest } from '../plan-report.ts'
import { createProgressLine } from '../progress.ts'
import { addSwarmOptions, type SwarmArguments, swarmOverrides } from '../swarm-options.ts'

interface SetupArguments extends GlobalArguments, SwarmArguments {
  model?: string | undefined
  layers?: string | undefined
  ends?: boolean | undefined
  recipe?: string | undefined
  yes: boolean
  web: boolean
  client?: string | undefined
  provider?: ProviderName | undefined
}

/** What is to be fetched, and why when it was this program's choice. */
interface Choice extends PendingSetup {
  readonly reason: string | null
  readonly config: Config
}

export const setupCommand: CommandModule<GlobalArguments, SetupArguments> = {
  command: 'setup',
  describe: 'Fetch the layers this node shall hold',
  builder: (yargs): Argv<SetupArguments> =>
    addSwarmOptions(yargs)
      .option('model', { type: 'string', describe: 'Repository, http(s) folder or folder (default: the demo model)' })
      .option('layers', {
        type: 'string',
        describe: 'Layers to hold: 4-7, all or none (default: those that help the swarm most)',
      })
      .option('ends', { type: 'boolean', describe: 'Hold embedding, head and tokenizer, to ask (default: yes)' })
      .option('recipe', { type: 'string', choices: ['i8', 'q4', 'q8', 'f32'], describe: 'How weights are kept' })
      .option('provider', providerOption)
      .option('yes', { type: 'boolean', default: false, describe: 'Ask nothing, take the recommendation' })
      .option('web', { type: 'boolean', default: false, describe: 'Do all of it on a page, and start the node there' })
      .option('client', { type: 'string', hidden: true }),
  async handler(argv) {
    const home = homeOf(argv)
    const { loadConfig } = await import('../../node/home.ts')
    const { provider } = argv
    const engine = provider === undefined ? {} : { engine: { provider } }
    const config = await loadConfig(home, { env: {}, overrides: { ...swarmOverrides(argv), ...engine } })
    if (argv.web) return await setUpOnPage(home, config)
    const choice = await choose(home, config, argv)
    const { assertProvider } = await import('../../node/engine-choice.ts')
    await assertProvider(config.engine, choice.recipe)
    const { entry, holding } = await fetchChoice(home, choice, argv)
    const { selfTest } = await import('../../node/self-test.ts')
    const test = await selfTest(home, config, entry, { signal: interruptSignal() })
    if (provider !== undefined) {
      const { setSetting } = await import('../../node/config-edit.ts')
      await setSetting(home, 'engine.provider', provider)
    }
    if (argv.json) {
      const { name, layers, ends, source, recipe } = entry
      const modelId = holding.modelIdHex
      const model = { name, source, modelId, recipe, layers, ends, nLayers: holding.spec.nLayers }
      return printJson('setup', { model, reason: choice.reason, selfTest: test })
    }
    printResult(entry, holding)
    printLine(describeSelfTest(test))
    for (const note of test.notes) printNotice(note)
    printNext(entry)
    const { readRunFile } = await import('../../node/run-file.ts')
    if ((await readRunFile(home)) !== undefined) {
      printNotice('The running node goes on with what it had. Start it again: llm-node stop, then llm-node start')
    }
  },
}

/** Ends with the node that was set up. */
async function setUpOnPage(home: Home, config: Config): Promise<void> {
  const { setupWeb } = await import('../../node/setup-web.ts')
  await setupWeb({
    home,
    config,
    signal: interruptSignal(),
    onReady(url) {
      printLine(`Set up your node here:  ${url}`)
      printNotice('The address is for you alone: whoever has it can command this node. Ctrl-C ends it.')
    },
    onStarted: (url) => printLine(`The node runs; its pages: ${url}`),
  })
}

function printResult(entry: ModelEntry, holding: SetupResult['holding']): void {
  const bytes = [...holding.layers.values()].reduce((sum, layer) => sum + layer.bytes, 0)
  const held = entry.layers === null ? 'no layers' : `layers ${entry.layers} of ${holding.spec.nLayers}`
  printLine(`${entry.name}: ${held} (${formatBytes(bytes)}, ${entry.recipe})${entry.ends ? ' and the ends' : ''}.`)
}

function printNext(entry: ModelEntry): void {
  printLine(entry.layers === null ? 'Ask with: llm-node ask "…"' : 'Start serving with: llm-node start')
  printNotice('A node that computes layers for you can reconstruct your prompt and the answer; see the README.')
}

/** By flags, by what an earlier run had decided, by questions on a terminal, or by what helps the swarm most. */
async function choose(home: Home, config: Config, argv: SetupArguments): Promise<Choice> {
  const { bundledModel } = await import('../../node/model-source.ts')
  const { defaultRecipe } = await import('../../node/default-recipe.ts')
  const given = argv.recipe as ModelEntry['recipe'] | undefined
  const ends = argv.ends ?? true
  if (argv.layers !== undefined) {
    const recipe = given ?? (await defaultRecipe(config.engine.provider))
    return {
      model: argv.model ?? bundledModel(),
      layers: argv.layers,
      ends,
      recipe,
      pinned: true,
      reason: null,
      config,
    }
  }
  const held = argv.yes ? heldAlready(config, argv.model ?? bundledModel()) : undefined
  if (held !== undefined && given === undefined) {
    return { ...held, ends: argv.ends ?? held.ends, reason: 'This home holds them already.', config }
  }
  const { readPendingSetup } = await import('../../node/pending-setup.ts')
  const pending = await readPendingSetup(home)
  if (pending !== undefined && agrees(pending, argv)) {
    printNotice(`Going on with what was begun: layers ${pending.layers} of ${pending.model}, ${pending.recipe}.`)
    return { ...pending, reason: 'Begun earlier.', config }
  }
  const questions = process.stdin.isTTY === true && process.stdout.isTTY === true && !argv.yes && !argv.json
  if (questions) return await chooseByQuestions(home, config, argv, given)
  const plan = await planWith(home, config, { model: argv.model ?? bundledModel(), recipe: given, ends }, argv)
  const { recommended, recipe } = plan
  if (recommended === null) throw nothingFits(plan)
  printNotice(`${recommended.reason} (${describeDownload(recommended)})`)
  const layers = formatSpan(recommended.span)
  const model = argv.model ?? bundledModel()
  return { model, layers, ends, recipe, pinned: false, reason: recommended.reason, config }
}

async function chooseByQuestions(
  home: Home,
  config: Config,
  argv: SetupArguments,
  given: ModelEntry['recipe'] | undefined,
): Promise<Choice> {
  const { askLayers, askModel } = await import('../setup-questions.ts')
  const { readCatalogue } = await import('../../node/catalogue.ts')
  const { bundledModel } = await import('../../node/model-source.ts')
  const { network, model } =
    argv.model === undefined
      ? await askModel({ network: config.network.name, bundled: bundledModel() }, await readCatalogue())
      : { network: config.network.name, model: argv.model }
  const named = { ...config, network: { ...config.network, name: network } }
  const plan = await planWith(home, named, { model, recipe: given, ends: argv.ends ?? true }, argv)
  const { layers, ends } = await askLayers(plan)
  const { recommended, recipe } = plan
  const reason = recommended !== null && layers === formatSpan(recommended.span) ? recommended.reason : null
  return { model, layers, ends: argv.ends ?? ends, recipe, pinned: reason === null, reason, config: named }
}

async function planWith(
  home: Home,
  config: Config,
  what: { model: string; recipe: ModelEntry['recipe'] | undefined; ends: boolean },
  argv: SetupArguments,
): Promise<Plan> {
  const { makePlan } = await import('../../node/plan.ts')
  printNotice('Looking at this machine and for peers …')
  return makePlan(home, config, {
    ...what,
    look: true,
    measure: true,
    clientName: argv.client,
    signal: interruptSignal(),
  })
}

async function fetchChoice(home: Home, choice: Choice, argv: SetupArguments): Promise<SetupResult> {
  const { setupModel } = await import('../../node/setup.ts')
  const { clearPendingSetup, writePendingSetup } = await import('../../node/pending-setup.ts')
  const { prepareHome } = await import('../../node/home.ts')
  const { model, layers, ends, recipe, pinned, config } = choice
  await prepareHome(home)
  await writePendingSetup(home, { model, layers, ends, recipe, pinned })
  const progress = createProgressLine('fetching')
  const result = await setupModel(home, config, {
    model,
    layers,
    ends,
    recipe,
    pinned,
    clientName: argv.client,
    signal: interruptSignal(),
    onProgress: ({ bytesDone, bytesTotal }) => progress.update(bytesDone, bytesTotal),
  }).finally(() => progress.done())
  await clearPendingSetup(home)
  return result
}

/** What this home is set up for: saying yes to everything again changes nothing, and completes what is missing. */
function heldAlready(config: Config, model: string): PendingSetup | undefined {
  const found = config.models.find(({ source }) => source === model || source.startsWith(`${model}@`))
  if (found?.layers == null) return undefined
  return { model, layers: found.layers, ends: found.ends, recipe: found.recipe, pinned: found.pinned }
}

/** Nothing that the user says now contradicts what was begun. */
function agrees(pending: PendingSetup, argv: SetupArguments): boolean {
  return (
    (argv.model === undefined || argv.model === pending.model) &&
    (argv.ends === undefined || argv.ends === pending.ends) &&
    (argv.recipe === undefined || argv.recipe === pending.recipe)
  )
}

function nothingFits(plan: Plan): LlmNodeError {
  return new LlmNodeError('OUT_OF_MEMORY', `${plan.name} in ${plan.recipe}: ${describeFit(plan)}.`, {
    hint: `This machine has ${describeMachine(plan.machine)}. Try --recipe q4, --no-ends, a smaller model, or --layers none to ask only.`,
  })
}
