import type { ApiError } from '../lib/api.ts'
import { texts } from '../texts.ts'

/** What happened, and what to do next. */
export function Problem({ error }: { error: unknown }) {
  if (error === undefined || error === null) return null
  const { message = texts.errors.unknown, hint, code } = error as Partial<ApiError>
  return (
    <p class="banner banner-bad" role="alert">
      <strong>{message}</strong> {hint} {code !== undefined && <small>({code})</small>}
    </p>
  )
}
