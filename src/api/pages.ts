import type { Context } from 'hono'
import type { ApiEnv } from './caller.ts'

/** One file of the pages, as it is sent. */
export interface PageFile {
  readonly type: string
  readonly bytes: Uint8Array<ArrayBuffer>
  /** The same, gzipped. */
  readonly zipped: Uint8Array<ArrayBuffer>
  /** Its name changes with its content. */
  readonly immutable: boolean
}

/** The built pages; src/node passes them in. */
export interface Pages {
  /** By the path of the address; undefined: there is none. Throws PAGES_MISSING. */
  find(path: string): Promise<PageFile | undefined>
}

/**
 * Nothing from elsewhere, no script or style in the document, no frames, and text becomes markup only through DOMPurify
 * (Trusted Types).
 */
const policy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  'trusted-types dompurify',
].join('; ')

/** A file of the pages, or undefined. They hold no secret, so nobody is asked for a token. */
export async function servePage(c: Context<ApiEnv>, pages: Pages): Promise<Response | undefined> {
  const file = await pages.find(c.req.path)
  if (file === undefined) return undefined
  const zips = /\bgzip\b/.test(c.req.header('accept-encoding') ?? '')
  return c.body(zips ? file.zipped : file.bytes, 200, {
    'content-type': file.type,
    'content-security-policy': policy,
    'cache-control': file.immutable ? 'public, max-age=31536000, immutable' : 'no-cache',
    vary: 'accept-encoding',
    ...(zips ? { 'content-encoding': 'gzip' } : {}),
  })
}
