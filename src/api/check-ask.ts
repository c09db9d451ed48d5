import { LlmNodeError } from '../base/errors.ts'
import { askSchema, type CheckedAskRequest } from './types.ts'

/** The request with its defaults filled in. Throws BAD_INPUT naming the field. */
export function checkAsk(raw: unknown): CheckedAskRequest {
  const parsed = askSchema.safeParse(raw)
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]
  throw new LlmNodeError('BAD_INPUT', `The request's ${issue?.path.join('.') || 'body'}: ${issue?.message}.`, {
    meta: { field: issue?.path.join('.') ?? '' },
  })
}
