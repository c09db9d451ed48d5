import { readFile, symlink, writeFile } from 'node:fs/promises'
import { createServer, request as rawRequest } from 'node:http'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { describe, expect, onTestFinished, test } from 'vitest'
import { concatBytes } from '../../src/base/bytes.ts'
import { createFileServer } from '../../src/shard/file-server.ts'
import { createFolderSource } from '../../src/shard/folder-source.ts'
import type { HttpGetDeps } from '../../src/shard/http-get.ts'
import { createHuggingFaceSource, createWebFolderSource } from '../../src/shard/http-source.ts'
import { openModelSource } from '../../src/shard/open-source.ts'
import type { ModelSource, RangeRequest } from '../../src/shard/source.ts'
import { createFaultServer, type Fault, type FaultOptions, type SeenRequest } from '../helpers/fault-server.ts'
import { tempFolder } from '../helpers/temp-folder.ts'

const content = Uint8Array.from({ length: 50_000 }, (_, i) => (i * 7 + (i >> 8)) & 255)

/** A folder with one file, served with faults; waits are recorded, not waited. */
async function faulty(fault: (request: SeenRequest) => Fault | undefined, extra: FaultOptions = {}) {
  const root = await tempFolder()
  await writeFile(join(root, 'w.bin'), content)
  const server = await createFaultServer(root, { ...extra, fault })
  const waits: number[] = []
  const deps: HttpGetDeps = {
    wait: async (ms) => {
      waits.push(ms)
    },
    nowMs: () => Date.parse('Tue, 02 Jan 2024 03:04:05 GMT'),
    stallMs: 200,
  }
  return { server, waits, source: createWebFolderSource({ base: server.url, token: 'secret' }, deps), root }
}

async function read(source: ModelSource, request: Omit<RangeRequest, 'file'>): Promise<Uint8Array> {
  const range = await source.openRange({ file: 'w.bin', ...request })
  const chunks: Uint8Array[] = []
  for await (const chunk of range.chunks) chunks.push(chunk)
  return concatBytes(...chunks)
}

const known = { version: '"w.bin"', fileBytes: content.length }

describe('a range over HTTP', () => {
  test('is exactly what was asked for, cut at the end of the file', async () => {
    const { source } = await faulty(() => undefined)
    expect(await read(source, { begin: 100, end: 200 })).toEqual(content.subarray(100, 200))
    const range = await source.openRange({ file: 'w.bin', begin: 49_990, end: 60_000 })
    expect(range).toMatchObject({ version: '"w.bin"', fileBytes: 50_000, end: 50_000 })
  })

  test('comes out of a 200 with the whole file', async () => {
    const { source } = await faulty(() => ({ ignoreRange: true }))
    expect(await read(source, { begin: 100, end: 200, known })).toEqual(content.subarray(100, 200))
  })

  test('is resumed where an answer was cut, with If-Range', async () => {
    const { source, server } = await faulty(({ repeat, range }) =>
      repeat === 0 && range?.begin !== 40_000 ? { cutAfter: 10_000 } : undefined,
    )
    expect(await read(source, { begin: 0, end: 50_000 })).toEqual(content)
    expect(server.requests.map(({ range }) => range?.begin)).toEqual([0, 10_000, 20_000, 30_000, 40_000])
    expect(server.requests.map(({ headers }) => headers['if-range'])).toEqual([undefined, ...Array(4).fill('"w.bin"')])
  })

  test('is resumed where a server sends less than asked, honestly', async () => {
    const { source, server } = await faulty(() => ({ shorten: 20_000 }))
    expect(await read(source, { begin: 5, end: 50_000 })).toEqual(content.subarray(5))
    expect(server.requests.map(({ range }) => range?.begin)).toEqual([5, 20_005, 40_005])
  })

  test('is resumed when nothing arrives any more', async () => {
    const { source, server } = await faulty(({ repeat }) => (repeat === 0 ? { stallAfter: 1_000 } : undefined))
    expect(await read(source, { begin: 0, end: 2_000 })).toEqual(content.subarray(0, 2_000))
    expect(server.requests.map(({ range }) => range?.begin)).toEqual([0, 1_000])
  })

  test('may take long as long as something arrives', async () => {
    const slow = { pieceBytes: 100, onPiece: () => pause(70) }
    const { source, server } = await faulty(() => undefined, slow)
    expect(await read(source, { begin: 0, end: 500 })).toEqual(content.subarray(0, 500))
    expect(server.requests).toHaveLength(1)
  })

  test('that makes no progress ends as DOWNLOAD_FAILED after a bounded number of attempts', async () => {
    const { source, server, waits } = await faulty(({ range }) =>
      range?.begin === 0 ? { cutAfter: 10 } : { cutAfter: 0 },
    )
    await expect(read(source, { begin: 0, end: 100 })).rejects.toMatchObject({ code: 'DOWNLOAD_FAILED' })
    expect(server.requests.length).toBeLessThan(10)
    expect(waits).toEqual([500, 1_000, 2_000, 4_000, 8_000])
  })

  test.each([
    ['bytes 101-199/50000'],
    ['bytes 100-250/50000'],
    ['bytes 100-199/*'],
    ['bytes 100-199/150'],
    ['bytes 100-99/50000'],
    ['items 100-199/50000'],
    ['bytes 100-199/99999999999999999999'],
  ])('with the Content-Range "%s" is refused', async (value) => {
    const { source } = await faulty(() => ({ headers: { 'content-range': value } }))
    await expect(read(source, { begin: 100, end: 200 })).rejects.toMatchObject({ code: 'DOWNLOAD_FAILED' })
  })

  test.each([
    ['another ETag and a 200', { content: { bytes: content, etag: '"new"' } }],
    ['another ETag and a 206', { headers: { etag: '"new"' } }],
    ['another length', { content: { bytes: content.subarray(1), etag: '"w.bin"' } }],
    ['a 416', { status: 416 }],
  ])('of a file that has changed is MODEL_CHANGED: %s', async (_, fault: Fault) => {
    const { source } = await faulty(() => fault)
    await expect(read(source, { begin: 100, end: 200, known })).rejects.toMatchObject({
      code: 'MODEL_CHANGED',
      meta: { file: 'w.bin' },
    })
  })

  test('of a file that changes between two answers is MODEL_CHANGED', async () => {
    const changed = { content: { bytes: content.map((byte) => byte ^ 1), etag: '"new"' } }
    const { source } = await faulty(({ range }) => (range?.begin === 0 ? { cutAfter: 10 } : changed))
    await expect(read(source, { begin: 0, end: 100 })).rejects.toMatchObject({ code: 'MODEL_CHANGED' })
  })

  test('of a file without any version is told from another by its length alone', async () => {
    const { source } = await faulty(() => ({ content: { bytes: content, etag: null } }))
    expect(await read(source, { begin: 0, end: 9, known: { version: null, fileBytes: 50_000 } })).toHaveLength(9)
    const other = { version: null, fileBytes: 50_001 }
    await expect(read(source, { begin: 0, end: 9, known: other })).rejects.toMatchObject({ code: 'MODEL_CHANGED' })
  })

  test('stops with ABORTED when told to', async () => {
    const stop = new AbortController()
    const { source } = await faulty(() => ({ stallAfter: 100 }))
    const range = await source.openRange({ file: 'w.bin', begin: 0, end: 200, signal: stop.signal })
    const reading = (async () => {
      for await (const _ of range.chunks) stop.abort()
    })()
    await expect(reading).rejects.toMatchObject({ code: 'ABORTED' })
    await expect(source.openRange({ file: 'w.bin', begin: 0, end: 1, signal: stop.signal })).rejects.toMatchObject({
      code: 'ABORTED',
    })
  })
})

describe('a busy or refusing server', () => {
  test.each([
    ['7', 7_000],
    ['Tue, 02 Jan 2024 03:04:35 GMT', 30_000],
    ['Tue, 02 Jan 2024 03:00:00 GMT', 0],
    ['soon', 500],
  ])('503 with Retry-After "%s" is asked again then', async (value, ms) => {
    const { source, waits } = await faulty(({ repeat }) =>
      repeat === 0 ? { status: 503, headers: { 'retry-after': value } } : undefined,
    )
    expect(await read(source, { begin: 0, end: 10 })).toHaveLength(10)
    expect(waits).toEqual([ms])
  })

  test('that asks to wait an hour is not waited for', async () => {
    const { source, waits } = await faulty(() => ({ status: 429, headers: { 'retry-after': '3600' } }))
    await expect(read(source, { begin: 0, end: 10 })).rejects.toThrow('asks to wait 3600 s')
    expect(waits).toEqual([])
  })

  test.each([
    [404, 'MODEL_NOT_FOUND'],
    [401, 'DOWNLOAD_FAILED'],
    [403, 'DOWNLOAD_FAILED'],
    [400, 'DOWNLOAD_FAILED'],
    [416, 'DOWNLOAD_FAILED'],
  ])('%i is %s at once', async (status, code) => {
    const { source, waits } = await faulty(() => ({ status }))
    await expect(read(source, { begin: 0, end: 10 })).rejects.toMatchObject({ code })
    expect(waits).toEqual([])
  })

  test('that is not there is tried a few times', async () => {
    const { source, waits } = await faulty(() => undefined)
    const closed = createWebFolderSource(
      { base: 'http://127.0.0.1:1/' },
      { wait: async () => {}, nowMs: () => 0, stallMs: 500 },
    )
    await expect(read(closed, { begin: 0, end: 10 })).rejects.toMatchObject({ code: 'DOWNLOAD_FAILED' })
    expect(await source.readFile('missing.json', { maxBytes: 10 })).toBeNull()
    expect(waits).toEqual([])
  })

  test('small files: whole, capped, and read anew when cut', async () => {
    const { source } = await faulty(({ repeat }) => (repeat === 0 ? { cutAfter: 100 } : undefined))
    expect(await source.readFile('w.bin', { maxBytes: 50_000 })).toEqual(content)
    await expect(source.readFile('w.bin', { maxBytes: 49_999 })).rejects.toMatchObject({ code: 'LIMIT' })
  })
})

describe('redirects', () => {
  test('to another origin keep the range and drop the token; within one origin the token stays', async () => {
    const cdn = await faulty(() => undefined)
    const front = await faulty(({ file }) =>
      file === 'w.bin'
        ? { status: 302, headers: { location: '/again.bin' } }
        : { status: 307, headers: { location: `${cdn.server.url}w.bin` } },
    )
    expect(await read(front.source, { begin: 30, end: 60 })).toEqual(content.subarray(30, 60))
    expect(front.server.requests.map(({ headers }) => headers.authorization)).toEqual([
      'Bearer secret',
      'Bearer secret',
    ])
    expect(cdn.server.requests.map(({ headers }) => [headers.authorization, headers.range])).toEqual([
      [undefined, 'bytes=30-59'],
    ])
  })

  test('a token once dropped is not sent again on the way back', async () => {
    let back = ''
    const other = await faulty(() => ({ status: 302, headers: { location: back } }))
    const front = await faulty(({ file }) =>
      file === 'w.bin' ? { status: 302, headers: { location: other.server.url } } : { status: 404 },
    )
    back = `${front.server.url}x.bin`
    await expect(read(front.source, { begin: 0, end: 1 })).rejects.toMatchObject({ code: 'MODEL_NOT_FOUND' })
    expect(front.server.requests.map(({ headers }) => headers.authorization)).toEqual(['Bearer secret', undefined])
  })

  test('in a circle, or to something that is not the web, end', async () => {
    const circle = await faulty(() => ({ status: 302, headers: { location: '/w.bin' } }))
    await expect(read(circle.source, { begin: 0, end: 1 })).rejects.toThrow('redirects more than')
    const odd = await faulty(() => ({ status: 302, headers: { location: 'file:///etc/passwd' } }))
    await expect(read(odd.source, { begin: 0, end: 1 })).rejects.toThrow('not safe')
  })
})

describe('what a user writes as a model', () => {
  test('a repository, in the layout of Hugging Face', async () => {
    const paths: string[] = []
    const server = createServer((request, response) => {
      paths.push(`${request.url} ${request.headers.authorization}`)
      response.end('{}')
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    onTestFinished(() => void server.close())
    const address = server.address()
    const endpoint = `http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}`
    const source = await openModelSource('Qwen/Qwen3-0.6B', { endpoint, token: 't' })
    await source.readFile('config.json', { maxBytes: 10 })
    const revised = createHuggingFaceSource({ repo: 'a/b', revision: 'refs/pr/1', endpoint: `${endpoint}/` })
    await revised.readFile('config.json', { maxBytes: 10 })
    expect(paths).toEqual([
      '/Qwen/Qwen3-0.6B/resolve/main/config.json Bearer t',
      '/a/b/resolve/refs%2Fpr%2F1/config.json undefined',
    ])
    expect([source.id, revised.id]).toEqual(['Qwen/Qwen3-0.6B@main', 'a/b@refs/pr/1'])
  })

  test.each([
    ['models/demo-qwen3', /models\/demo-qwen3$/],
    ['./models/demo-qwen3', /^\/.*models\/demo-qwen3$/],
    ['https://host/folder', /^https:\/\/host\/folder\/$/],
    ['org/name@v1.0', /^org\/name@v1\.0$/],
  ])('%s', async (text, id) => {
    expect((await openModelSource(text)).id).toMatch(id)
  })

  test.each(['', 'name', 'a/b/c', 'http://', 'a b/c', 'ftp://host/x'])('not "%s"', async (text) => {
    await expect(openModelSource(text)).rejects.toMatchObject({ code: 'BAD_INPUT' })
  })
})

test('a folder as a source knows its versions and stays inside', async () => {
  const root = await tempFolder()
  await writeFile(join(root, 'w.bin'), content)
  const source = createFolderSource(root)
  expect(await read(source, { begin: 10, end: 99_999 })).toEqual(content.subarray(10))
  const { version, fileBytes } = await source.openRange({ file: 'w.bin', begin: 0, end: 1 })
  await writeFile(join(root, 'w.bin'), content.subarray(1))
  await expect(read(source, { begin: 0, end: 1, known: { version, fileBytes } })).rejects.toMatchObject({
    code: 'MODEL_CHANGED',
  })
  await expect(source.readFile('../w.bin', { maxBytes: 9 })).rejects.toMatchObject({ code: 'BAD_INPUT' })
  expect(await source.readFile('none', { maxBytes: 9 })).toBeNull()
})

describe('the file server', () => {
  async function served() {
    const root = await tempFolder()
    await writeFile(join(root, 'w.bin'), content)
    const server = await createFileServer({ root })
    onTestFinished(() => server.close())
    return { root, server, get: (init?: RequestInit, path = 'w.bin') => fetch(`${server.url}${path}`, init ?? {}) }
  }

  test.each([
    ['bytes=0-9', 206, 'bytes 0-9/50000', 10],
    ['bytes=49990-', 206, 'bytes 49990-49999/50000', 10],
    ['bytes=-10', 206, 'bytes 49990-49999/50000', 10],
    ['bytes=49990-60000', 206, 'bytes 49990-49999/50000', 10],
    ['bytes=50000-', 416, 'bytes */50000', 0],
    ['bytes=-0', 416, 'bytes */50000', 0],
    ['bytes=9-5', 200, null, 50_000],
    ['bytes=0-1,3-4', 200, null, 50_000],
    ['lines=0-1', 200, null, 50_000],
  ])('Range %s: %i', async (range, status, contentRange, length) => {
    const { get, server } = await served()
    const response = await get({ headers: { range, 'x-llm-node-client': 'me' } })
    const body = await response.bytes()
    expect([response.status, response.headers.get('content-range'), body.length]).toEqual([
      status,
      contentRange,
      length,
    ])
    expect(server.stats().totalBytes).toBe(length)
    if (length > 0) expect(server.stats().clients).toEqual({ me: { totalBytes: length, files: { 'w.bin': length } } })
  })

  test('HEAD sends no body, If-Range with an old ETag gives the whole, other methods are refused', async () => {
    const { get, server } = await served()
    const head = await get({ method: 'HEAD' })
    expect([head.headers.get('content-length'), server.stats().totalBytes]).toEqual(['50000', 0])
    const etag = head.headers.get('etag') ?? ''
    const range = 'bytes=0-9'
    expect((await get({ headers: { range, 'if-range': etag } })).status).toBe(206)
    expect((await get({ headers: { range, 'if-range': '"old"' } })).status).toBe(200)
    expect((await get({ method: 'POST' })).status).toBe(405)
  })

  test('serves nothing outside its root', async () => {
    const { root, server, get } = await served()
    const outside = await tempFolder()
    await writeFile(join(outside, 'secret'), 'x')
    await symlink(join(outside, 'secret'), join(root, 'link'))
    const port = new URL(server.url).port
    const raw = (path: string) =>
      new Promise((resolve) => {
        rawRequest({ port, host: '127.0.0.1', path }, (response) => resolve(response.resume().statusCode)).end()
      })
    for (const path of [
      '/../secret',
      '/..%2fsecret',
      '/%2e%2e/secret',
      `/${outside}/secret`,
      '/link',
      '/',
      '//',
      '/%00',
      '/%zz',
      '/w.bin/',
    ]) {
      expect(await raw(path)).toBe(404)
    }
    expect((await get()).status).toBe(200)
    expect(await readFile(join(outside, 'secret'), 'utf8')).toBe('x')
  })

  test('counts clients beyond the cap together', async () => {
    const { get, server } = await served()
    for (let i = 0; i < 260; i++)
      await (await get({ headers: { range: 'bytes=0-0', 'x-llm-node-client': `c${i}` } })).bytes()
    expect(Object.keys(server.stats().clients)).toHaveLength(257)
    expect(server.stats().clients.other?.totalBytes).toBe(4)
  })
})
