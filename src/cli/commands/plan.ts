import type { Argv, CommandModule } from 'yargs'
import type { ModelEntry } from '../../base/config.ts'
import { LlmNodeError } from '../../base/errors.ts'
import { formatSpan } from '../../base/span.ts'
import { type GlobalArguments, homeOf } from '../context.ts'
import { interruptSignal } from '../interrupt.ts'
import { printJson, printLine } from '../output.ts'
import {
  describeDownload,
  describeEstimate,
  describeFit,
  describeMachine,
  describeMemory,
  describeSpeed,
  describeSwarm,
  planBody,
} from '../plan-report.ts'
import { addSwarmOptions, type SwarmArguments, swarmOverrides } from '../swarm-options.ts'

interface PlanArguments extends GlobalArguments, SwarmArguments {
  model?: string | undefined
  recipe?: string | undefined
  ends: boolean
  alone: boolean
  measure: boolean
}

export const planCommand: CommandModule<GlobalArguments, PlanArguments> = {
  command: 'plan',
  describe: 'What this node could hold, what it would cost and improve',
  builder: (yargs): Argv<PlanArguments> =>
    addSwarmOptions(yargs)
      .option('model', { type: 'string', describe: 'Repository, http(s) folder or folder (default: the demo model)' })
      .option('recipe', { type: 'string', choices: ['i8', 'q4', 'q8', 'f32'], describe: 'How weights are kept' })
      .option('ends', {
        type: 'boolean',
        default: true,
        describe: 'Count embedding, head and tokenizer, to ask; --no-ends: do not',
      })
      .option('measure', { type: 'boolean', default: true, describe: 'Measure speeds (--no-measure: sizes alone)' })
      .option('alone', { type: 'boolean', default: false, describe: 'Do not look at the swarm' }),
  async handler(argv) {
    const home = homeOf(argv)
    const { loadConfig } = await import('../../node/home.ts')
    const { bundledModel } = await import('../../node/model-source.ts')
    const { makePlan } = await import('../../node/plan.ts')
    const config = await loadConfig(home, { env: process.env, overrides: swarmOverrides(argv) })
    const plan = await makePlan(home, config, {
      model: argv.model ?? bundledModel(),
      recipe: argv.recipe as ModelEntry['recipe'] | undefined,
      ends: argv.ends,
      look: !argv.alone,
      measure: argv.measure,
      signal: interruptSignal(),
    })
    if (plan.recommended === null) {
      throw new LlmNodeError('OUT_OF_MEMORY', `${plan.name} in ${plan.recipe}: ${describeFit(plan)}.`, {
        hint: `This machine has ${describeMachine(plan.machine)}. Try --recipe q4, --no-ends or a smaller model.`,
      })
    }
    if (argv.json) return printJson('plan', planBody(plan))
    const { recommended } = plan
    printLine(`this machine  ${describeMachine(plan.machine)}`)
    printLine(`model         ${plan.name}, ${plan.nLayers} layers, recipe ${plan.recipe}: ${describeFit(plan)}`)
    printLine(`swarm         ${argv.alone ? 'not asked' : describeSwarm(plan)}`)
    printLine(`best          layers ${formatSpan(recommended.span)}. ${recommended.reason}`)
    if (plan.speed !== null) printLine(`speed         ${describeSpeed(plan.speed)}`)
    const rates = describeEstimate(plan)
    if (rates !== null) printLine(`one answer    ${rates} (estimate)`)
    printLine(`download      ${describeDownload(recommended)} (estimate)`)
    printLine(`memory        ${describeMemory(recommended)}`)
    printLine()
    const model = argv.model === undefined ? '' : ` --model ${argv.model}`
    const ends = argv.ends ? '' : ' --no-ends'
    printLine(
      `Hold them: llm-node setup${model} --layers ${formatSpan(recommended.span)} --recipe ${plan.recipe}${ends}`,
    )
  },
}
