import { concatBytes } from '../base/bytes.ts'
import { LlmNodeError } from '../base/errors.ts'
import { downloadLimits } from '../base/limits.ts'
import {
  createHttpGet,
  cutShort,
  type HttpAnswer,
  type HttpGet,
  type HttpGetDeps,
  type HttpGetOptions,
  isPassing,
  waitMs,
} from './http-get.ts'
import type { FileRange, FileVersion, ModelSource, RangeRequest } from './source.ts'

interface HttpSourceOptions extends HttpGetOptions {
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

function createHttpSource(options: HttpSourceOptions, deps: HttpGetDeps = realDeps): ModelSource {
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
      const open = (at: number, end: number, known: FileVersion | undefined) =>
        openOnce(http, url, { ...request, begin: at, end }, known)
      const first = await http.persist(() => open(request.begin, request.end, request.known), request.signal)
      return { ...first.range, chunks: resumed(first) }

      async function* resumed({ range, bytes }: OpenedRange): AsyncGenerator<Uint8Array> {
        let current: AsyncGenerator<Uint8Array> | null = bytes
        let at = request.begin
        let answerBegin = at
        const nextChunk = async (): Promise<Uint8Array> => {
          answerBegin = current ? answerBegin : at
          const from = current ?? (await open(at, range.end, range)).bytes
          // Whatever goes wrong with this answer, the next attempt asks anew from where the bytes ended.
          current = null
          try {
            const { value, done } = await from.next()
            if (done) throw cutShort(url.host)
            current = from
            return value
          } catch (error) {
            // An answer that brought something is followed by the next request at once.
            if (isPassing(error) && at > answerBegin) return nextChunk()
            throw error
          }
        }
        try {
          while (at < range.end) {
            const chunk = await http.persist(nextChunk, request.signal)
            at += chunk.length
            yield chunk
          }
        } finally {
          await current?.return(undefined)
        }
      }
    },
  }
}

interface OpenedRange {
  readonly range: Omit<FileRange, 'chunks'>
  /** At most the bytes of the range; fewer when the answer is cut short. */
  readonly bytes: AsyncGenerator<Uint8Array>
}

/** One GET of [begin, end), checked against what is known of the file. */
async function openOnce(
  http: HttpGet,
  url: URL,
  { file, begin, end, signal }: RangeRequest,
  known: FileVersion | undefined,
): Promise<OpenedRange> {
  const headers: Record<string, string> = { range: `bytes=${begin}-${end - 1}` }
  // A weak ETag may not be used in If-Range (RFC 9110 §13.1.5); the answer's own ETag is compared below.
  if (known?.version && !known.version.startsWith('W/')) headers['if-range'] = known.version
  const answer = await http.once(url, headers, signal)
  try {
    if (answer.response.status === 416 && known) throw changed(file)
    assertStatus(answer, [200, 206], file)
    const version = answer.response.headers.get('etag') ?? answer.response.headers.get('last-modified')
    if (known?.version && version !== known.version) throw changed(file)
    const whole = answer.response.status === 200
    const fileBytes = whole ? contentLength(answer.response, file) : contentRange(answer.response, file, begin, end)
    if (known && known.fileBytes !== fileBytes) throw changed(file)
    if (begin >= fileBytes) throw refused(file, `it has only ${fileBytes} bytes`)
    if (whole && begin > downloadLimits.skipBytes) {
      throw refused(file, 'the server cannot send parts of a file, and this one is too large to be read from its start')
    }
    const stop = Math.min(end, fileBytes)
    return { range: { version, fileBytes, end: stop }, bytes: cut(answer.body(), whole ? begin : 0, stop - begin) }
  } catch (error) {
    answer.discard()
    throw error
  }
}

/** `count` bytes of a body after leaving out the first `skip`. */
async function* cut(body: AsyncGenerator<Uint8Array>, skip: number, count: number): AsyncGenerator<Uint8Array> {
  let toSkip = skip
  let left = count
  for await (const chunk of body) {
    const part = chunk.subarray(Math.min(toSkip, chunk.length), Math.min(chunk.length, toSkip + left))
    toSkip -= Math.min(toSkip, chunk.length)
    left -= part.length
    if (part.length > 0) yield part
    if (left === 0) return
  }
}

async function readWhole(answer: HttpAnswer, file: string, maxBytes: number): Promise<Uint8Array> {
  const stated = answer.response.headers.get('content-length')
  const chunks: Uint8Array[] = []
  let total = 0
  for await (const chunk of answer.body()) {
    total += chunk.length
    if (total > maxBytes) {
      throw new LlmNodeError('LIMIT', `${file} is larger than ${maxBytes} bytes.`, { meta: { file, maxBytes } })
    }
    chunks.push(chunk)
  }
  if (stated !== null && Number(stated) !== total) throw cutShort(new URL(answer.response.url).host)
  return concatBytes(...chunks)
}

function assertStatus(answer: HttpAnswer, wanted: readonly number[], file: string): void {
  const { status } = answer.response
  if (wanted.includes(status)) return
  answer.discard()
  if (status === 404) throw new LlmNodeError('MODEL_NOT_FOUND', `The source has no ${file}.`, { meta: { file } })
  if (status === 401 || status === 403) {
    throw new LlmNodeError('DOWNLOAD_FAILED', `The source refuses ${file} (${status}).`, {
      hint: 'Check the name of the model; if it is gated, accept its terms and give a token in HF_TOKEN.',
      meta: { file, status },
    })
  }
  throw refused(file, `the server answers ${status}`)
}

/** The file's length, from a 206 that must begin where the request did and end no later. */
function contentRange(response: Response, file: string, begin: number, end: number): number {
  const value = response.headers.get('content-range') ?? ''
  const match = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15})$/.exec(value)
  const [first, last, total] = [Number(match?.[1]), Number(match?.[2]), Number(match?.[3])]
  if (!match || first !== begin || last < first || last >= end || last >= total) {
    throw refused(file, `the server answers bytes ${begin}-${end - 1} with Content-Range "${value}"`)
  }
  return total
}

function contentLength(response: Response, file: string): number {
  const value = response.headers.get('content-length') ?? ''
  if (!/^\d{1,15}$/.test(value)) throw refused(file, 'the server says neither range nor length')
  return Number(value)
}

function changed(file: string): LlmNodeError {
  return new LlmNodeError('MODEL_CHANGED', `${file} has changed at the source.`, {
    hint: 'Run it again; parts of the earlier version are fetched anew.',
    meta: { file },
  })
}

function refused(file: string, why: string): LlmNodeError {
  return new LlmNodeError('DOWNLOAD_FAILED', `${file} cannot be read from the source: ${why}.`, {
    hint: 'Try another source, or an HTTP server that supports ranges.',
    meta: { file },
  })
}
