import type { Argv, CommandModule } from 'yargs'
import type { AskEvent, AskRequest, AskResult } from '../../api/types.ts'
import { type ErrorCode, LlmNodeError } from '../../base/errors.ts'
import { formatSpan } from '../../base/span.ts'
import { findAdmin } from '../../node/admin-client.ts'
import { addNodeOptions, type GlobalArguments, homeOf, type NodeArguments, overridesOf } from '../context.ts'
import { interruptSignal } from '../interrupt.ts'
import { printJson, printLine, printNotice, shortAddress } from '../output.ts'

interface AskArguments extends GlobalArguments, NodeArguments {
  prompt?: string | undefined
  model?: string | undefined
  system?: string | undefined
  maxTokens?: number | undefined
  temperature?: number | undefined
  topK?: number | undefined
  topP?: number | undefined
  minP?: number | undefined
  seed?: number | undefined
  stop?: string[] | undefined
  via?: string | undefined
  named: boolean
  solo: boolean
  profile?: AskRequest['profile']
  ignoreEnd?: boolean | undefined
  logitsDigest?: boolean | undefined
  speculate: boolean
  explain: boolean
  resume?: string | undefined
  persist: boolean
  exact: boolean
  hedge: boolean
  firstTokenMs?: number | undefined
  tokenMs?: number | undefined
  totalMs?: number | undefined
  waitMs?: number | undefined
}

export const askCommand: CommandModule<GlobalArguments, AskArguments> = {
  command: 'ask [prompt]',
  describe: 'Ask the model, through the swarm or alone',
  builder: (yargs): Argv<AskArguments> =>
    addNodeOptions(yargs)
      .positional('prompt', { type: 'string', describe: 'What to ask' })
      .option('model', { type: 'string', describe: 'Which model, when this home holds several' })
      .option('system', { type: 'string', describe: 'System message' })
      .option('max-tokens', { type: 'number', describe: 'Longest answer' })
      .option('temperature', { type: 'number', describe: '0: always the most likely token' })
      .option('top-k', { type: 'number', describe: 'Draw from so many tokens at most' })
      .option('top-p', { type: 'number', describe: 'Draw from the most likely tokens of this share' })
      .option('min-p', { type: 'number', describe: 'Draw from tokens of this share of the best one' })
      .option('seed', { type: 'number', describe: 'The same seed gives the same answer' })
      .option('stop', { type: 'string', array: true, describe: 'End the answer before this text' })
      .option('via', {
        type: 'string',
        describe: 'Let this node generate: ADDRESS.llm, llm://… or a petname; needs no weights here',
      })
      .option('named', { type: 'boolean', default: false, describe: 'With --via: prove your address to that node' })
      .option('solo', { type: 'boolean', default: false, describe: 'Run all layers here' })
      .option('profile', {
        choices: ['auto', 'direct', 'guarded', 'trusted', 'local-only'] as const,
        describe: 'Who may see what: guarded hides who asks, trusted and local-only also what',
      })
      .option('ignore-end', { type: 'boolean', default: false, describe: 'Go on past the end, up to --max-tokens' })
      .option('speculate', { type: 'boolean', default: true, describe: 'Guess tokens ahead where it pays' })
      .option('resume', {
        type: 'string',
        describe: 'Go on with an answer that was interrupted; without ID the latest',
      })
      .option('persist', { type: 'boolean', default: true, describe: 'Keep the answer, sealed, until it is finished' })
      .option('exact', { type: 'boolean', default: true, describe: '--no-exact: rather go on inexactly than wait' })
      .option('hedge', { type: 'boolean', default: false, describe: 'Let a second circuit race a slow one' })
      .option('first-token-ms', { type: 'number', describe: 'Try another way when no token has come by then' })
      .option('token-ms', { type: 'number', describe: 'The same for every further token' })
      .option('total-ms', { type: 'number', describe: 'End the answer then' })
      .option('wait-ms', { type: 'number', describe: 'How long to wait when layers are missing' })
      .option('explain', { type: 'boolean', default: false, describe: 'Say why which node was chosen' })
      .option('logits-digest', { type: 'boolean', default: false, hidden: true }),
  async handler(argv) {
    if (argv.resume === undefined && (argv.prompt ?? '').trim() === '')
      throw new LlmNodeError('BAD_INPUT', 'There is nothing to ask.')
    const signal = interruptSignal()
    const events = await openAsk(argv, signal)
    const result = await readAnswer(events, { quiet: argv.json })
    if (argv.json) printJson('ask', { ...result })
    else printSummary(result)
    if (argv.explain && !argv.json) printRoute(result)
  },
}

/** Prints the text as it comes and ends its line, however the answer ends. */
export async function readAnswer(events: AsyncIterable<AskEvent>, { quiet }: { quiet: boolean }): Promise<AskResult> {
  let printed = false
  try {
    for await (const event of events) {
      if (event.type === 'text' && !quiet) {
        process.stdout.write(event.text)
        printed = true
      }
      if (event.type === 'suspended')
        printNotice(`${printed ? '\n' : ''}${event.message} Waiting for somebody; Ctrl-C ends it.`)
      if (event.type === 'continued') printNotice('Somebody has come: it goes on.')
      if (event.type === 'error') throw errorOf(event)
      if (event.type === 'done') return event.result
    }
  } finally {
    if (printed) printLine()
  }
  throw new LlmNodeError('INTERNAL', 'The node ended the answer without a word.')
}

/** Through the node that runs on this home, otherwise through one that lives as long as the answer. */
async function openAsk(argv: AskArguments, signal: AbortSignal): Promise<AsyncIterable<AskEvent>> {
  const home = homeOf(argv)
  const { parseTarget } = await import('../../node/contacts.ts')
  const via = argv.via === undefined ? undefined : (await parseTarget(home, argv.via)).uri
  const request = requestOf({ ...argv, via })
  const admin = await findAdmin(home)
  if (admin !== undefined) return admin.ask(request, signal)
  const { askOnce } = await import('../../node/ask-once.ts')
  return askOnce({ home, overrides: overridesOf(argv), env: process.env }, request, {
    signal,
    onNotice: printNotice,
  })
}

function requestOf(argv: AskArguments): AskRequest {
  return {
    model: argv.model,
    ...(argv.prompt === undefined ? {} : { messages: messagesOf(argv.prompt, argv) }),
    maxTokens: argv.maxTokens,
    temperature: argv.temperature,
    topK: argv.topK,
    topP: argv.topP,
    minP: argv.minP,
    seed: argv.seed,
    stop: argv.stop,
    via: argv.via,
    named: argv.named,
    solo: argv.solo,
    profile: argv.profile,
    ignoreEnd: argv.ignoreEnd ?? false,
    logitsDigest: argv.logitsDigest ?? false,
    speculate: argv.speculate,
    resume: argv.resume,
    ...(argv.persist ? {} : { persist: false }),
    ...(argv.exact ? {} : { exact: false }),
    ...(argv.hedge ? { hedge: true } : {}),
    firstTokenMs: argv.firstTokenMs,
    tokenMs: argv.tokenMs,
    totalMs: argv.totalMs,
    waitMs: argv.waitMs,
  }
}

function messagesOf(prompt: string, { system }: AskArguments): NonNullable<AskRequest['messages']> {
  const before = system === undefined ? [] : [{ role: 'system' as const, content: system }]
  return [...before, { role: 'user', content: prompt }]
}

function errorOf({ error }: Extract<AskEvent, { type: 'error' }>): LlmNodeError {
  return new LlmNodeError(error.code as ErrorCode, error.message, error.hint === null ? {} : { hint: error.hint })
}

/** Each stop with its estimate and the reason for it, then what that makes in tokens. */
function printRoute({ hops, estimate }: AskResult): void {
  for (const { span, address, ms, linkMs, reason } of hops) {
    const where = address === null ? 'here' : shortAddress(address)
    const computing = ms === null ? '' : `, ${ms.toFixed(1)} ms a token`
    const link = linkMs === null ? '' : `, ${linkMs.toFixed(1)} ms to it`
    printNotice(`  layers ${formatSpan(span)} ${where}${computing}${link}: ${reason}`)
  }
  const { solo, split } = estimate
  const known = [
    split === null ? [] : [`${split.toFixed(1)} tokens/s over this route`],
    solo === null ? [] : [`${solo.toFixed(1)} tokens/s alone`],
  ].flat()
  if (known.length > 0) printNotice(`  estimate: ${known.join(', ')}`)
}

function printSummary(result: AskResult): void {
  if (result.audit?.state === 'failed') printNotice(`Do not rely on this answer: ${result.audit.note}`)
  const { via } = result
  if (via !== undefined) {
    const pace = result.tokensPerSecond === null ? '' : `, ${result.tokensPerSecond.toFixed(1)} tokens/s`
    const seen = result.profile === 'guarded' ? 'through relays, it does not see you' : 'it sees your address'
    printNotice(`generated by ${shortAddress(via.address)}, ${seen}; ${via.tokens} tokens${pace}, ${result.profile}`)
    return
  }
  const way = result.hops
    .map((hop) => `${formatSpan(hop.span)} ${hop.address === null ? 'here' : `at ${shortAddress(hop.address)}`}`)
    .join(', ')
  const speed = result.tokensPerSecond === null ? '' : `, ${result.tokensPerSecond.toFixed(1)} tokens/s`
  const moved = result.failovers === 0 ? '' : `, moved ${result.failovers === 1 ? 'once' : `${result.failovers} times`}`
  printNotice(
    `layers ${way}; ${result.tokens.length} tokens${speed}${moved}, ${result.profile}${result.exact ? ', exact' : ''}`,
  )
}
