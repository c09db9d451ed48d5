import { z } from 'zod'
import { askSchema } from '../api/types.ts'
import { concatBytes, fromUtf8, utf8 } from '../base/bytes.ts'
import { LlmNodeError } from '../base/errors.ts'
import { encodeAddress } from '../p2p/address.ts'
import { appendSignature, hasSignature, SIGNATURE_BYTES } from '../p2p/signing.ts'

/**
 * What goes through an answer circuit (protocol.md §5): one request, then lines of JSON. A caller who wants to be known
 * adds its address key and a signature over the circuit's exporter, which nobody else can have.
 */
const AUTH_LABEL = 'llm answer auth v1'
const KEY_HEX = 64

export const answerRequestSchema = z.strictObject({
  ...askSchema.pick({
    model: true,
    prompt: true,
    messages: true,
    maxTokens: true,
    temperature: true,
    topK: true,
    topP: true,
    minP: true,
    seed: true,
    stop: true,
  }).shape,
  auth: z
    .strictObject({
      key: z
        .string()
        .regex(/^[0-9a-f]+$/)
        .length(KEY_HEX),
      sig: z
        .string()
        .regex(/^[0-9a-f]+$/)
        .length(2 * SIGNATURE_BYTES),
    })
    .optional(),
})
export type AnswerRequest = z.output<typeof answerRequestSchema>

const doneSchema = z.object({
  model: z.string().max(256),
  finishReason: z.enum(['stop', 'length']),
  exact: z.boolean(),
  promptTokens: z.int().nonnegative(),
  completionTokens: z.int().nonnegative(),
})
const lineSchema = z.union([z.object({ delta: z.string() }), z.object({ done: doneSchema })])
export type AnswerLine = z.output<typeof lineSchema>

/** Throws BAD_INPUT. */
export function readAnswerRequest(bytes: Uint8Array): AnswerRequest {
  return parse(answerRequestSchema, bytes, 'BAD_INPUT')
}

export function writeAnswerLine(line: AnswerLine): Uint8Array {
  return utf8(`${JSON.stringify(line)}\n`)
}

/** Whole lines out of pieces as they come. Throws BAD_FRAME. */
export async function* readAnswerLines(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<AnswerLine> {
  let rest: Uint8Array = new Uint8Array(0)
  for await (const piece of pieces) {
    let start = 0
    for (let end = piece.indexOf(10); end >= 0; end = piece.indexOf(10, start)) {
      yield parse(lineSchema, concatBytes(rest, piece.subarray(start, end)), 'BAD_FRAME')
      rest = new Uint8Array(0)
      start = end + 1
    }
    rest = concatBytes(rest, piece.subarray(start))
  }
  if (rest.length > 0) throw new LlmNodeError('BAD_FRAME', 'The answer ends in the middle of a line.')
}

/** Names the caller to the answering node: by its own choice only. */
export function signAnswerRequest(
  exporter: Uint8Array,
  by: { network: string; addressKey: Uint8Array; sign(message: Uint8Array): Uint8Array },
): NonNullable<AnswerRequest['auth']> {
  const signed = appendSignature(exporter, {
    label: AUTH_LABEL,
    network: by.network,
    sign: (message) => by.sign(message),
  })
  const sig = Buffer.from(signed.subarray(exporter.length)).toString('hex')
  return { key: Buffer.from(by.addressKey).toString('hex'), sig }
}

/** The caller's `.llm` address, proven. Undefined: it did not say. Throws AUTH_FAILED. */
export function callerOf(
  { auth }: AnswerRequest,
  { exporter, network }: { exporter: Uint8Array; network: string },
): string | undefined {
  if (auth === undefined) return undefined
  const addressKey = Uint8Array.from(Buffer.from(auth.key, 'hex'))
  const signed = concatBytes(exporter, Uint8Array.from(Buffer.from(auth.sig, 'hex')))
  if (!hasSignature(signed, { label: AUTH_LABEL, network, addressKey })) {
    throw new LlmNodeError('AUTH_FAILED', 'The caller did not prove its address.')
  }
  return encodeAddress(addressKey)
}

function parse<T>(schema: z.ZodType<T>, bytes: Uint8Array, code: 'BAD_INPUT' | 'BAD_FRAME'): T {
  try {
    return schema.parse(JSON.parse(fromUtf8(bytes)))
  } catch (cause) {
    throw new LlmNodeError(code, 'A message of an answer circuit cannot be read.', { cause })
  }
}
