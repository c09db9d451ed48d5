import type { Context } from 'hono'

/** Who makes a request, as its key says. */
export interface Caller {
  /** Name of the key; null: none was needed. */
  readonly name: string | null
  /** Counts tokens against the key's limit, after they were computed. */
  charge(nTokens: number): void
}

/** What the middlewares leave for the handlers. */
export interface ApiEnv {
  Variables: { caller: Caller; requestId: string }
}

export type ApiContext = Context<ApiEnv>
