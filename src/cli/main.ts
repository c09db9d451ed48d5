import { hideBin } from 'yargs/helpers'
import { LlmNodeError } from '../base/errors.ts'
import { keepCompiledCode } from './compile-cache.ts'
import { reportError } from './output.ts'

// Before the verbs load what they need.
keepCompiledCode(process.env)
const { createProgram, verbs } = await import('./program.ts')
const args = hideBin(process.argv)
const verb = args.find((arg) => verbs.includes(arg))

// `llm-node peers | head -1`: whoever reads has enough, which is no fault.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
  process.exit(0)
})

/** What yargs says, as a sentence on one line. */
function usageError(message: string): LlmNodeError {
  const told = message.replaceAll(/\s*\n\s*/g, ' ').replace(/\.?$/, '.')
  const sentence = told.startsWith('Did you mean')
    ? `There is no verb "${args.find((arg) => !arg.startsWith('-'))}". ${message}`
    : told.replace(/^Not enough non-option arguments.*/, 'Something is missing.')
  const help = verb === undefined ? 'llm-node --help' : `llm-node ${verb} --help`
  return new LlmNodeError('BAD_INPUT', sentence, { hint: `${help} says what there is.` })
}

try {
  await createProgram(args, { width: Math.min(110, process.stdout.columns ?? 110) })
    .fail((message, error) => {
      throw error ?? usageError(message)
    })
    .parseAsync()
} catch (error) {
  process.exitCode = reportError(error, {
    debug: args.includes('--debug'),
    json: args.includes('--json'),
    verb: verb ?? 'error',
  })
}
