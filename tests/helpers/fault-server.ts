import { readFile } from 'node:fs/promises'
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'

export interface SeenRequest {
  readonly file: string
  /** Half-open; null: the whole file was asked for. */
  readonly range: { readonly begin: number; readonly end: number } | null
  readonly headers: IncomingHttpHeaders
  /** 0 for the first request for this file that asks for this very range. */
  readonly repeat: number
}

/** What goes wrong with one answer; undefined: nothing. */
export interface Fault {
  readonly status?: number
  readonly headers?: Readonly<Record<string, string>>
  /** Answers 200 with the whole file. */
  readonly ignoreRange?: boolean
  /** Sends this many bytes of the body and ends the connection. */
  readonly cutAfter?: number
  /** Sends the headers and this many bytes, and then nothing more. */
  readonly stallAfter?: number
  /** Answers 206 with at most this many bytes, honestly said in Content-Range. */
  readonly shorten?: number
  /** Serves these bytes under this ETag instead of the file's. */
  readonly content?: { readonly bytes: Uint8Array; readonly etag: string | null }
}

export interface FaultServer {
  readonly url: string
  readonly requests: readonly SeenRequest[]
  /** Body bytes handed to the system. */
  sentBytes(): number
}

export interface FaultOptions {
  readonly fault?: (request: SeenRequest) => Fault | undefined
  /** Bodies go out in pieces of this size with `onPiece` in between: a slow line. */
  readonly pieceBytes?: number
  readonly onPiece?: (sentBytes: number) => Promise<void>
}

/** Serves a folder on 127.0.0.1 and misbehaves where told to. Closed when the test is over. */
export async function createFaultServer(root: string, options: FaultOptions = {}): Promise<FaultServer> {
  const requests: SeenRequest[] = []
  let sent = 0
  const respond = async (request: SeenRequest, response: ServerResponse): Promise<void> => {
    const fault = options.fault?.(request) ?? {}
    if (fault.status !== undefined) {
      response.writeHead(fault.status, fault.headers).end()
      return
    }
    const bytes = fault.content?.bytes ?? (await readFile(join(root, request.file)).catch(() => null))
    if (!bytes) {
      response.writeHead(404).end()
      return
    }
    const etag = fault.content === undefined ? `"${request.file}"` : fault.content.etag
    const ifRange = request.headers['if-range']
    const range = fault.ignoreRange || (ifRange !== undefined && ifRange !== etag) ? null : request.range
    const begin = range?.begin ?? 0
    const most = range ? (fault.shorten ?? bytes.length) : bytes.length
    const end = Math.min(range?.end ?? bytes.length, bytes.length, begin + most)
    response.writeHead(range ? 206 : 200, {
      'content-length': end - begin,
      ...(etag === null ? {} : { etag }),
      ...(range ? { 'content-range': `bytes ${begin}-${end - 1}/${bytes.length}` } : {}),
      ...fault.headers,
    })
    const stop = Math.min(end, begin + (fault.cutAfter ?? fault.stallAfter ?? Number.POSITIVE_INFINITY))
    const step = options.pieceBytes ?? bytes.length
    for (let at = begin; at < stop && !response.destroyed; at += step) {
      const piece = bytes.subarray(at, Math.min(stop, at + step))
      await new Promise((resolve) => response.write(piece, resolve))
      sent += piece.length
      await options.onPiece?.(sent)
    }
    if (fault.stallAfter !== undefined) return
    if (stop < end) response.destroy()
    else response.end()
  }
  const server = createServer((incoming, response) => {
    const file = decodeURIComponent((incoming.url ?? '/').slice(1))
    const match = /^bytes=(\d+)-(\d+)$/.exec(incoming.headers.range ?? '')
    const range = match ? { begin: Number(match[1]), end: Number(match[2]) + 1 } : null
    const same = requests.filter((one) => one.file === file && JSON.stringify(one.range) === JSON.stringify(range))
    const request = { file, range, headers: incoming.headers, repeat: same.length }
    requests.push(request)
    respond(request, response).catch(() => response.destroy())
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  })
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return { url: `http://127.0.0.1:${address.port}/`, requests, sentBytes: () => sent }
}
