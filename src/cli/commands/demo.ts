import type { Argv, CommandModule } from 'yargs'
import type { GlobalArguments } from '../context.ts'
import { interruptSignal } from '../interrupt.ts'
import { printJson, printLine, printNotice } from '../output.ts'

interface DemoArguments extends GlobalArguments {
  prompt: string
  recipe: string
  web: boolean
}

export const demoCommand: CommandModule<GlobalArguments, DemoArguments> = {
  command: 'demo',
  describe: 'Three nodes on this machine run one model together, compared with one process byte by byte',
  builder: (yargs): Argv<DemoArguments> =>
    yargs
      .option('prompt', { type: 'string', default: 'What is llm-node?', describe: 'What to ask' })
      .option('recipe', { type: 'string', default: 'f32', choices: ['i8', 'q4', 'q8', 'f32'] })
      .option('web', {
        type: 'boolean',
        default: false,
        describe: 'Watch it on a page, and kill a node in mid-answer',
      }),
  async handler(argv) {
    if (argv.web) return await showDemo(argv)
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

/** Until Ctrl-C. */
async function showDemo({ prompt, recipe, json }: DemoArguments): Promise<void> {
  const { runDemoWeb } = await import('../../node/demo/web.ts')
  await runDemoWeb({
    prompt,
    recipe,
    signal: interruptSignal(),
    onReady(url) {
      if (json) return printJson('demo', { url })
      printLine(`Open this page; the nodes start when you do:  ${url}`)
      printNotice('Ctrl-C ends it and removes everything.')
    },
  })
}
