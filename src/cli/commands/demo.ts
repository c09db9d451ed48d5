import type { Argv, CommandModule } from 'yargs'
import type { GlobalArguments } from '../context.ts'
import { interruptSignal } from '../interrupt.ts'
import { printJson } from '../output.ts'

interface DemoArguments extends GlobalArguments {
  prompt: string
  recipe: string
}

export const demoCommand: CommandModule<GlobalArguments, DemoArguments> = {
  command: 'demo',
  describe: 'Three nodes on this machine run one model together, compared with one process byte by byte',
  builder: (yargs): Argv<DemoArguments> =>
    yargs
      .option('prompt', { type: 'string', default: 'What is llm-node?', describe: 'What to ask' })
      .option('recipe', { type: 'string', default: 'f32', choices: ['i8', 'q4', 'q8', 'f32'] }),
  async handler(argv) {
    const { runDemo } = await import('../../node/demo/run.ts')
    const { createReporter } = await import('../demo-report.ts')
    const result = await runDemo(
      { prompt: argv.prompt, recipe: argv.recipe, signal: interruptSignal() },
      createReporter({ quiet: argv.json }),
    )
    if (argv.json) printJson('demo', { ...result })
    if (!result.identical) process.exitCode = 1
  },
}
