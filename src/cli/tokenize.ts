import { readFile } from 'node:fs/promises'
import { z } from 'zod'
import { assertInput, LlmNodeError } from '../base/errors.ts'
import { cliLimits } from '../base/limits.ts'
import { openTokenizeTool, type TokenizedText } from '../node/tokenize.ts'
import { printJson, printLine } from './output.ts'

export interface TokenizeOptions {
  /** Folder of the model. */
  readonly model: string
  /** File with a JSON array of messages; without it, one text per line of `stdin`. */
  readonly chat?: string | undefined
  /** Add what the model puts around a text (a begin token). Chats write their own. */
  readonly special: boolean
  readonly json: boolean
  readonly stdin: AsyncIterable<Uint8Array>
}

const messagesSchema = z.array(z.looseObject({ role: z.string() })).min(1)

/** `tokenize`: ids and decoded text of each line of stdin, or of one rendered chat. */
export async function runTokenize(options: TokenizeOptions): Promise<void> {
  const tool = await openTokenizeTool(options.model)
  const items =
    options.chat === undefined
      ? (await readLines(options.stdin)).map((line) => tool.encodeText(line, { addSpecialTokens: options.special }))
      : [tool.encodeChat(await readMessages(options.chat))]
  if (options.json) printJson('tokenize', { items })
  else for (const item of items) printLine(formatItem(item))
}

function formatItem({ ids, text }: TokenizedText): string {
  return `${ids.join(' ')}\t${JSON.stringify(text)}`
}

/** Lines end with \n alone, so that a text may hold any other character; a last line without it counts. */
async function readLines(stdin: AsyncIterable<Uint8Array>): Promise<string[]> {
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of stdin) {
    size += chunk.length
    assertInput(size <= cliLimits.stdinBytes, `More than ${cliLimits.stdinBytes} bytes on stdin.`)
    chunks.push(chunk)
  }
  const lines = Buffer.concat(chunks).toString('utf8').split('\n')
  return lines.at(-1) === '' ? lines.slice(0, -1) : lines
}

async function readMessages(path: string): Promise<z.output<typeof messagesSchema>> {
  const text = await readFile(path, 'utf8').catch((cause: unknown) => {
    throw new LlmNodeError('BAD_INPUT', `${path} cannot be read.`, { cause })
  })
  try {
    return messagesSchema.parse(JSON.parse(text))
  } catch (cause) {
    throw new LlmNodeError('BAD_INPUT', `${path} is not a list of chat messages.`, {
      hint: 'Write a JSON array such as [{"role": "user", "content": "Hello"}].',
      cause,
    })
  }
}
