import type { Argv, CommandModule } from 'yargs'
import { LlmNodeError } from '../../base/errors.ts'
import { type GlobalArguments, type ProviderName, providerOption } from '../context.ts'
import { interruptSignal } from '../interrupt.ts'
import { printJson, printLine, printNotice } from '../output.ts'

interface LogitsArguments extends GlobalArguments {
  model: string
  promptIds: string
  steps: number
  recipe: string
  split?: string | undefined
  rows?: number | undefined
  threads?: number | undefined
  provider?: ProviderName | undefined
  out?: string | undefined
  hidden: boolean
}

export const logitsCommand: CommandModule<GlobalArguments, LogitsArguments> = {
  command: 'logits',
  describe: 'Raw logits of token ids, for checking against other engines',
  builder: (yargs) =>
    yargs
      .option('model', { type: 'string', demandOption: true, describe: 'Folder with config.json and safetensors' })
      .option('prompt-ids', { type: 'string', demandOption: true, describe: 'Token ids, separated by commas' })
      .option('steps', { type: 'number', default: 1, describe: 'Greedy tokens to generate' })
      .option('recipe', { type: 'string', default: 'f32', choices: ['i8', 'q4', 'q8', 'f32'] })
      .option('split', { type: 'string', describe: 'Cut the layers into sessions of their own: 4,8 or 4,4,4' })
      .option('rows', { type: 'number', describe: 'Rows of one prefill chunk' })
      .option('threads', { type: 'number', describe: 'Threads of a run' })
      .option('provider', providerOption)
      .option('out', { type: 'string', describe: 'Write the tensors to this safetensors file' })
      .option('hidden', {
        type: 'boolean',
        default: false,
        describe: 'Also the rows after every layer',
      }) as unknown as Argv<LogitsArguments>,
  async handler(argv) {
    const { runLogits } = await import('../../node/logits.ts')
    const { schema: _, ...result } = await runLogits({
      model: argv.model,
      promptIds: readNumbers(argv.promptIds, '--prompt-ids'),
      steps: argv.steps,
      recipe: `${argv.recipe}/1` as 'f32/1',
      split: argv.split === undefined ? undefined : readNumbers(argv.split, '--split'),
      rows: argv.rows,
      threads: argv.threads,
      provider: argv.provider,
      library: process.env.LLM_NODE_ORT_LIB || undefined,
      out: argv.out,
      hidden: argv.hidden,
      onNotice: printNotice,
      signal: interruptSignal(),
    })
    if (argv.json) return printJson('logits', { ...result })
    printLine(`greedy  ${result.greedy.join(' ')}`)
    printLine(`digest  ${result.digest}`)
  },
}

function readNumbers(text: string, flag: string): number[] {
  const parts = text.split(',').map((part) => part.trim())
  if (parts.some((part) => !/^\d{1,9}$/.test(part))) {
    throw new LlmNodeError('BAD_INPUT', `${flag} takes whole numbers separated by commas, not "${text}".`)
  }
  return parts.map(Number)
}
