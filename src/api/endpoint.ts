import type { z } from 'zod'

/** One endpoint, as the OpenAPI document and docs/api.md tell it. */
export interface Endpoint {
  readonly method: 'get' | 'post' | 'delete'
  readonly path: string
  readonly summary: string
  /** `key`: an API key where the node requires one. `token`: the admin token. `open`: neither. */
  readonly access: 'key' | 'token' | 'open'
  readonly request?: z.ZodType
  /** Name in the document, media type and schema of the answer. */
  readonly response: { readonly type: string; readonly schema: z.ZodType | null }
  /** Each event of the stream, when the answer can be one. */
  readonly stream?: z.ZodType
}
