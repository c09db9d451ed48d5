import { type FileHandle, open, realpath } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { join, sep } from 'node:path'
import { LlmNodeError } from '../base/errors.ts'
import { fileServerLimits } from '../base/limits.ts'

export interface FileServerStats {
  readonly totalBytes: number
  /** Body bytes sent, by path below the root. */
  readonly files: Readonly<Record<string, number>>
  /** The same by client: its `x-llm-node-client` header, otherwise its User-Agent. */
  readonly clients: Readonly<
    Record<string, { readonly totalBytes: number; readonly files: Readonly<Record<string, number>> }>
  >
}

export interface FileServer {
  /** `http://127.0.0.1:port/`. */
  readonly url: string
  stats(): FileServerStats
  /** Ends open connections too. Idempotent. */
  close(): Promise<void>
}

/**
 * Serves the files below `root` on 127.0.0.1 at a port of the system's choice: GET and HEAD, one range (RFC 9110 §14),
 * ETag and If-Range. For the demo and for tests; a real mirror is any web server that supports ranges.
 */
export async function createFileServer(options: { root: string }): Promise<FileServer> {
  const root = await realpath(options.root)
  const ledger = createLedger()
  const server = createServer((request, response) => {
    answer(root, request, response, ledger).catch(() => {
      if (!response.headersSent) response.writeHead(500)
      response.destroy()
    })
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', resolve)
  })
  const address = server.address()
  if (address === null || typeof address === 'string') throw new LlmNodeError('INTERNAL', 'The server has no port.')
  return {
    url: `http://127.0.0.1:${address.port}/`,
    stats: ledger.stats,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

interface Ledger {
  add(client: string, file: string, bytes: number): void
  stats(): FileServerStats
}

/** Names come from outside: past the cap they are counted together. */
function createLedger(): Ledger {
  const clients = new Map<string, Map<string, number>>()
  const filesOf = (client: string) => {
    const name = clients.has(client) || clients.size < fileServerLimits.clients ? client : 'other'
    const files = clients.get(name) ?? new Map<string, number>()
    clients.set(name, files)
    return files
  }
  const sum = (files: Iterable<number>) => [...files].reduce((total, bytes) => total + bytes, 0)
  return {
    add(client, file, bytes) {
      const files = filesOf(client)
      files.set(file, (files.get(file) ?? 0) + bytes)
    },
    stats() {
      const files = new Map<string, number>()
      for (const own of clients.values()) {
        for (const [file, bytes] of own) files.set(file, (files.get(file) ?? 0) + bytes)
      }
      const byClient = [...clients].map(
        ([client, own]) => [client, { totalBytes: sum(own.values()), files: Object.fromEntries(own) }] as const,
      )
      return {
        totalBytes: sum(files.values()),
        files: Object.fromEntries(files),
        clients: Object.fromEntries(byClient),
      }
    },
  }
}

async function answer(root: string, request: IncomingMessage, response: ServerResponse, ledger: Ledger): Promise<void> {
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.writeHead(405, { allow: 'GET, HEAD' }).end()
    return
  }
  const found = await openBelow(root, request.url ?? '/')
  if (!found) {
    response.writeHead(404).end()
    return
  }
  const { handle, name } = found
  try {
    const { size, mtimeMs } = await handle.stat()
    const etag = `"${size.toString(16)}-${Math.round(mtimeMs * 1_000).toString(16)}"`
    const ifRange = request.headers['if-range']
    const range = ifRange === undefined || ifRange === etag ? parseRange(request.headers.range, size) : null
    const headers = { 'accept-ranges': 'bytes', etag, 'content-type': 'application/octet-stream' }
    if (range === 'unsatisfiable') {
      response.writeHead(416, { ...headers, 'content-range': `bytes */${size}` }).end()
      return
    }
    const { begin, end } = range ?? { begin: 0, end: size }
    const partial = range ? { 'content-range': `bytes ${begin}-${end - 1}/${size}` } : {}
    response.writeHead(range ? 206 : 200, { ...headers, ...partial, 'content-length': end - begin })
    const client = request.headers['x-llm-node-client'] ?? request.headers['user-agent'] ?? 'unknown'
    if (request.method === 'GET') {
      await send(handle, begin, end, response, (bytes) => ledger.add(String(client), name, bytes))
    }
    response.end()
  } finally {
    await handle.close()
  }
}

/** The file that `url` names, unless that lies outside the root, by dots or by a link. */
async function openBelow(root: string, url: string): Promise<{ handle: FileHandle; name: string } | null> {
  try {
    const name = decodeURIComponent(new URL(url, 'http://localhost').pathname).slice(1)
    const path = await realpath(join(root, name))
    if (!path.startsWith(root + sep)) return null
    const handle = await open(path)
    if ((await handle.stat()).isFile()) return { handle, name }
    await handle.close()
  } catch {
    // Not decodable, not there, or not readable: all the same to a client.
  }
  return null
}

/** One range of bytes; null: none, or several, which a server may ignore. */
function parseRange(header: string | undefined, size: number): { begin: number; end: number } | 'unsatisfiable' | null {
  const match = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header ?? '')
  const [first, last] = [match?.[1] ?? '', match?.[2] ?? '']
  if (first === '' && last === '') return null
  if (first === '') {
    const count = Math.min(Number(last), size)
    return count === 0 ? 'unsatisfiable' : { begin: size - count, end: size }
  }
  const begin = Number(first)
  if (last !== '' && Number(last) < begin) return null
  if (begin >= size) return 'unsatisfiable'
  return { begin, end: last === '' ? size : Math.min(Number(last) + 1, size) }
}

async function send(
  handle: FileHandle,
  begin: number,
  end: number,
  response: ServerResponse,
  count: (bytes: number) => void,
): Promise<void> {
  for (let at = begin; at < end && !response.destroyed; ) {
    const chunk = new Uint8Array(Math.min(fileServerLimits.chunkBytes, end - at))
    const { bytesRead } = await handle.read(chunk, 0, chunk.length, at)
    if (bytesRead === 0) break
    at += bytesRead
    count(bytesRead)
    // A client that went away during the read has had its `close` already: nothing would end the wait.
    if (!response.write(chunk.subarray(0, bytesRead)) && !response.destroyed) await drained(response)
  }
}

function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      response.off('drain', done)
      response.off('close', done)
      resolve()
    }
    response.on('drain', done)
    response.on('close', done)
  })
}
