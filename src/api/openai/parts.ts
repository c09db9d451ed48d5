import type { z } from 'zod'
import { LlmNodeError } from '../../base/errors.ts'
import type { Logger } from '../../base/logger.ts'
import type { Admission } from '../admission.ts'
import type { ApiContext } from '../caller.ts'
import type { GenerationCall, Inference } from '../inference.ts'
import { bodyError } from './errors.ts'
import { type OpenedGeneration, openGeneration } from './generation.ts'

export interface RequestUsage {
  readonly prompt_tokens: number
  readonly completion_tokens?: number
  readonly total_tokens: number
}

/** Against the caller's limit, and for the metrics. */
export function account(c: ApiContext, parts: OpenAiParts, usage: RequestUsage): void {
  c.var.caller.charge(usage.total_tokens)
  parts.onUsage(usage)
}

/** What the endpoints share. */
export interface OpenAiParts {
  readonly inference: Inference
  readonly admission: Admission
  readonly logger: Pick<Logger, 'warn'>
  /** Sees what each finished request used. */
  readonly onUsage: (usage: RequestUsage) => void
  /** Unix ms. */
  readonly nowMs: () => number
  /** 24 hexadecimal digits. */
  readonly newId: () => string
}

/** The checked body. Throws BAD_INPUT naming the field. */
export async function readBody<T extends z.ZodType>(c: ApiContext, schema: T): Promise<z.output<T>> {
  if (!/^application\/json\s*(;|$)/i.test(c.req.header('content-type') ?? '')) {
    throw new LlmNodeError('BAD_INPUT', 'The request is not JSON: send content-type: application/json.')
  }
  const text = await c.req.text()
  let body: unknown
  try {
    body = JSON.parse(text)
  } catch {
    throw new LlmNodeError('BAD_INPUT', 'The body of the request is not valid JSON.')
  }
  const result = schema.safeParse(body)
  if (!result.success) throw bodyError(result.error)
  return result.data
}

/** A generation that ends with its client: counted, cancelled when the other side goes away. */
export interface Visit {
  readonly opened: OpenedGeneration
  /** Frees everything. Idempotent. */
  leave(): Promise<void>
}

export async function visit(c: ApiContext, parts: OpenAiParts, call: GenerationCall): Promise<Visit> {
  const exit = parts.admission.enter()
  const gone = goneWith(c)
  try {
    const opened = await openGeneration(parts.inference, call, gone.signal)
    return {
      opened,
      async leave() {
        gone.abort()
        exit()
        await opened.close()
      },
    }
  } catch (error) {
    exit()
    throw error
  }
}

/** Aborts when the client goes away, with the usual reason; the server's own one is no AbortError. */
export function goneWith(c: ApiContext): AbortController {
  const gone = new AbortController()
  const { signal } = c.req.raw
  if (signal.aborted) gone.abort()
  else signal.addEventListener('abort', () => gone.abort(), { once: true })
  return gone
}
