import { concatBytes } from '../base/bytes.ts'
import { LlmNodeError } from '../base/errors.ts'
import { downloadLimits } from '../base/limits.ts'
import { createHttpGet, cutShort, type HttpAnswer, type HttpGetDeps, type HttpGetOptions, waitMs } from './http-get.ts'
import type { FileRange, FileVersion, ModelSource, RangeRequest } from './source.ts'

export interface HttpSourceOptions extends HttpGetOptions {
  readonly id: string
  /** The address of a file of the model. */
  urlOf(file: string): URL
}

const realDeps: HttpGetDeps = { wait: waitMs, nowMs: () => Date.now(), stallMs: downloadLimits.stallMs }

/** Plain HTTP(S) folder: `{base}/{file}`. */
export function createWebFolderSource(
  options: HttpGetOptions & { base: string },
  deps: HttpGetDeps = realDeps,
): ModelSource {
  const base = new URL(options.base.endsWith('/') ? options.base : `${options.base}/`)
  return createHttpSource({ ...options, id: base.href, urlOf: (file) => new URL(encodeURIComponent(file), base) }, deps)
}

/** Hugging Face layout: `{endpoint}/{repo}/resolve/{revision}/{file}`. */
export function createHuggingFaceSource(
  options: HttpGetOptions & { repo: string; revision: string; endpoint: string },
  deps: HttpGetDeps = realDeps,
): ModelSource {
  const { repo, revision, endpoint } = options
  const base = `${endpoint.replace(/\/+$/, '')}/${repo}/resolve/${encodeURIComponent(revision)}/`
  return createHttpSource(
    { ...options, id: `${repo}@${revision}`, urlOf: (file) => new URL(encodeURIComponent(file), base) },
    deps,
  )
}

export function createHttpSource(options: HttpSourceOptions, deps: HttpGetDeps = realDeps): ModelSource {
  const http = createHttpGet(options, deps)

  return {
    id: options.id,
    readFile(file, { maxBytes, signal }) {
      const url = options.urlOf(file)
      return http.persist(async () => {
        const answer = await http.once(url, {}, signal)
        if (answer.response.status === 404) {
          answer.discard()
          return null
        }
        assertStatus(answer, [200], file)
        return await readWhole(answer, file, maxBytes)
      }, signal)
    },
    async openRange(request) {
      const url = options.urlOf(request.file)
      const open = (at: number, known: FileVersion | undefined) => openOnce(http, url, request, at, known)
      const first = await http.persist(() => open(request.begin, request.known), request.signal)
      return { ...first.range, chunks: resumed(first) }

      async function* resumed(opened: OpenedRange): AsyncGenerator<Uint8Array> {
        const { end } = opened.range
        let at = request.begin
        let current: OpenedRange | null = opened
        while (at < end) {
          // A loop by hand: a generator cannot yield from inside persist's attempt.
          const { chunk, next } = await http.persist(async (progress) => {
            const from: OpenedRange = current ?? (await open(at, opened.range))
            current = null
            const { value, done } = await from.bytes.next()
            if (done) throw cutShort(url.host)
            progress()
            return { chunk: value, next: from }
          }, request.signal)
          current = next
          at += chunk.length
          try {
            yield chunk
          } finally {
            // Also runs when the reader stops early: the connection is given back then.
            if (at >= end || current !== next) await next.bytes.return(undefined)
          }
        }
      }
    },
  }
}
