import { Environment, Interpreter, parse, tokenize } from '@huggingface/jinja'
import { LlmNodeError } from '../base/errors.ts'
import { templateLimits } from '../base/limits.ts'

/** A message as templates read it: `role` and `content`, and whatever else the model's template knows. */
export type ChatMessage = Readonly<Record<string, unknown>> & { readonly role: string }

export interface ChatRequest {
  readonly template: string
  readonly messages: readonly ChatMessage[]
  /** End with the beginning of the assistant's turn. */
  readonly addGenerationPrompt: boolean
  /** More variables, for example enable_thinking. BAD_INPUT on the names of ours. */
  readonly kwargs?: Readonly<Record<string, unknown>>
  /** bos_token, eos_token, …, from `specialTokensOf`. */
  readonly tokens: Readonly<Record<string, string>>
  /** What strftime_now tells; templates may write today's date. */
  readonly now?: Date
}

/** Thrown by a template's raise_exception: the messages are at fault. */
class TemplateRefusal extends Error {}

/**
 * The text of a chat, as apply_chat_template of transformers writes it. Special tokens in it are text still: encode
 * it without adding any. Throws BAD_INPUT with the template's own words when it refuses the messages,
 * MODEL_UNSUPPORTED when it is no template that can be run.
 */
export function renderChat(request: ChatRequest): string {
  const environment = createEnvironment(request)
  try {
    if (request.template.length > templateLimits.characters) throw new Error('it is too long')
    const program = parse(tokenize(request.template, { lstrip_blocks: true, trim_blocks: true }))
    const text: unknown = new Interpreter(environment).run(program).value
    if (typeof text !== 'string') throw new Error('it wrote no text')
    return text
  } catch (error) {
    if (error instanceof TemplateRefusal) {
      throw new LlmNodeError('BAD_INPUT', error.message, {
        hint: "This is what the model's chat template says about the messages; change their roles or their order.",
      })
    }
    const reason = error instanceof Error ? error.message : String(error)
    throw new LlmNodeError('MODEL_UNSUPPORTED', `The model's chat template cannot be run: ${reason}.`, {
      hint: 'Use a raw prompt (POST /v1/completions) or another model.',
      cause: error,
    })
  }
}

function createEnvironment({ messages, addGenerationPrompt, kwargs = {}, tokens, now }: ChatRequest): Environment {
  const environment = new Environment()
  const ours = {
    messages,
    add_generation_prompt: addGenerationPrompt,
    true: true,
    false: false,
    none: null,
    True: true,
    False: false,
    None: null,
    range,
    raise_exception: (message: unknown) => {
      throw new TemplateRefusal(String(message))
    },
    strftime_now: (format: unknown) => formatTime(now ?? new Date(), String(format)),
  }
  for (const [name, value] of Object.entries(ours)) environment.set(name, value)
  for (const name of Object.keys(kwargs)) {
    if (Object.hasOwn(ours, name) || name === 'namespace') {
      throw new LlmNodeError('BAD_INPUT', `The chat template's variable ${name} cannot be set.`, { meta: { name } })
    }
  }
  // What transformers passes when the caller names none.
  const variables = { tools: null, documents: null, ...tokens, ...kwargs }
  for (const [name, value] of Object.entries(variables)) environment.set(name, value)
  return environment
}

/** Python's range(stop) and range(start, stop, step). */
function range(first: unknown, second?: unknown, step: unknown = 1): number[] {
  const [start, stop] = second === undefined ? [0, Number(first)] : [Number(first), Number(second)]
  const size = Math.ceil((stop - start) / Number(step))
  if (!Number.isInteger(size) || size > templateLimits.rangeItems) throw new Error('a range in it is too large')
  return Array.from({ length: Math.max(0, size) }, (_, i) => start + i * Number(step))
}

const monthNames = 'January February March April May June July August September October November December'.split(' ')

/** Python's strftime in the C locale, local time, for the directives that templates use. Others are left as they are. */
function formatTime(time: Date, format: string): string {
  const month = monthNames[time.getMonth()] ?? ''
  const twoDigits = (value: number) => String(value).padStart(2, '0')
  const texts: Readonly<Record<string, string>> = {
    Y: String(time.getFullYear()),
    m: twoDigits(time.getMonth() + 1),
    d: twoDigits(time.getDate()),
    B: month,
    b: month.slice(0, 3),
    H: twoDigits(time.getHours()),
    M: twoDigits(time.getMinutes()),
    S: twoDigits(time.getSeconds()),
    '%': '%',
  }
  return format.replaceAll(/%(.)/g, (directive, letter: string) => texts[letter] ?? directive)
}

/**
 * The chat template of a repository: chat_template.jinja if there is one, else chat_template of tokenizer_config.json
 * (a string, or a list of named ones of which "default" is meant). Null: the model has none and cannot chat.
 */
export function chatTemplateOf(files: { tokenizerConfig?: unknown; jinjaFile?: string | undefined }): string | null {
  if (files.jinjaFile !== undefined) return files.jinjaFile
  const template = fieldOf(files.tokenizerConfig, 'chat_template')
  if (typeof template === 'string') return template
  if (!Array.isArray(template)) return null
  const named = template.find((entry: unknown) => fieldOf(entry, 'name') === 'default')
  const text = fieldOf(named, 'template')
  return typeof text === 'string' ? text : null
}

const tokenFields = ['bos_token', 'eos_token', 'unk_token', 'sep_token', 'pad_token', 'cls_token', 'mask_token']

/** The special tokens that tokenizer_config.json names, as variables for the template; unset ones are left out. */
export function specialTokensOf(tokenizerConfig: unknown): Record<string, string> {
  const tokens: Record<string, string> = {}
  for (const field of tokenFields) {
    const value = fieldOf(tokenizerConfig, field)
    const text = typeof value === 'string' ? value : fieldOf(value, 'content')
    if (typeof text === 'string') tokens[field] = text
  }
  return tokens
}

function fieldOf(value: unknown, field: string): unknown {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[field] : undefined
}
