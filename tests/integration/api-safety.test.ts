import { once } from 'node:events'
import { readFile, stat } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { silentLogger } from '../../src/base/logger.ts'
import { addApiKey, removeApiKey } from '../../src/node/api-keys.ts'
import { serveHttp } from '../../src/node/serve-http.ts'
import { type ApiNode, adminToken, startApiNode } from './api-helpers.ts'
import { createCleanup } from './p2p-helpers.ts'

/** What an attacker can send, over real sockets. */
const cleanup = createCleanup()
let api: ApiNode
let port: number

beforeAll(async () => {
  api = await startApiNode(cleanup, { layers: 'none', timeouts: { headersMs: 600, requestMs: 1_200 } })
  port = Number(new URL(api.url).port)
}, 30_000)
afterAll(() => cleanup.run())

/** Sends bytes and reads the answer up to the end of the connection, or what has come until `withinMs`. */
async function send(parts: Iterable<string | Buffer>, withinMs = 5_000): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  let answer = ''
  socket.on('data', (data) => {
    answer += data.toString()
  })
  socket.on('error', () => {})
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
  const timer = setTimeout(() => socket.destroy(), withinMs)
  for (const part of parts) {
    if (socket.destroyed) break
    if (!socket.write(part)) await Promise.race([drained(socket), closed])
  }
  await closed
  clearTimeout(timer)
  return answer
}

const drained = (socket: Socket) => once(socket, 'drain').catch(() => {})
const request = (lines: readonly string[]) => `${lines.join('\r\n')}\r\nConnection: close\r\n\r\n`
const statusOf = (answer: string) => Number(/^HTTP\/1\.1 (\d{3})/.exec(answer)?.[1])
const own = () => `Host: 127.0.0.1:${port}`

describe('pages of others', () => {
  it.each([
    ['a name that was pointed here', ['GET /v1/models HTTP/1.1', 'Host: evil.example']],
    ['a name that looks like an address', ['GET /v1/models HTTP/1.1', 'Host: 127.0.0.1.evil.example']],
    ['no port games', ['GET /v1/models HTTP/1.1', 'Host: 127.0.0.1@evil.example']],
    ['another address', ['GET /v1/models HTTP/1.1', 'Host: 192.168.1.7']],
    ['a foreign origin', ['GET /v1/models HTTP/1.1', 'Host: localhost', 'Origin: http://evil.example']],
    ['an opaque origin', ['GET /v1/models HTTP/1.1', 'Host: localhost', 'Origin: null']],
    ['a foreign page without an origin', ['GET /v1/models HTTP/1.1', 'Host: localhost', 'Sec-Fetch-Site: cross-site']],
    ['another port of this machine', ['GET /api/health HTTP/1.1', 'Host: localhost', 'Sec-Fetch-Site: same-site']],
  ])('refuses %s', async (_what, lines) => {
    const answer = await send([request(lines)])
    expect([400, 403]).toContain(statusOf(answer))
    expect(answer).not.toContain('demo-qwen3')
    expect(answer).not.toMatch(/access-control-allow/i)
  })

  it('answers its own', async () => {
    for (const host of ['localhost', '127.0.0.1', '[::1]', '127.8.9.1'].map((name) => `${name}:${port}`)) {
      const lines = [
        'GET /v1/models HTTP/1.1',
        `Host: ${host}`,
        `Origin: http://${host}`,
        'Sec-Fetch-Site: same-origin',
      ]
      expect(statusOf(await send([request(lines)])), host).toBe(200)
    }
  })

  it('answers no preflight with permissions', async () => {
    const lines = ['OPTIONS /v1/models HTTP/1.1', own(), 'Origin: http://evil.example']
    expect(await send([request(lines)])).not.toMatch(/access-control-allow/i)
  })
})

describe('the admin part', () => {
  it.each(['/api/status', '/api/peers', '/api/events', '/api/generations', '/api/unknown'])(
    'keeps %s to the bearer of the token',
    async (path) => {
      for (const header of ['X: y', 'Authorization: Bearer wrong', `Authorization: Basic ${adminToken}`]) {
        expect(statusOf(await send([request([`GET ${path} HTTP/1.1`, own(), header])]))).toBe(401)
      }
    },
  )

  it('stops for nobody without it', async () => {
    const lines = ['POST /api/stop HTTP/1.1', own(), 'Content-Length: 0']
    expect(statusOf(await send([request(lines)]))).toBe(401)
  })

  it('answers with it', async () => {
    const lines = ['GET /api/status HTTP/1.1', own(), `Authorization: Bearer ${adminToken}`]
    const answer = await send([request(lines)])
    expect(statusOf(answer)).toBe(200)
    expect(answer).toMatch(/content-security-policy: default-src 'none'/i)
    expect(answer).toMatch(/x-request-id: req_[0-9a-f]{24}/i)
  })
})

describe('paths', () => {
  it.each([
    '/assets/../../package.json',
    '/assets/%2e%2e/%2e%2e/package.json',
    '/assets/..%5c..%5cpackage.json',
    '/../../etc/passwd',
    '/v1/models/..%2f..%2fetc%2fpasswd',
    '/v1/../../package.json',
    '//etc/passwd',
    '/%00',
  ])('finds nothing at %s', async (path) => {
    const answer = await send([request([`GET ${path} HTTP/1.1`, own()])])
    expect([400, 404]).toContain(statusOf(answer))
    expect(answer).not.toMatch(/root:|"dependencies"/)
  })
})

describe('the pages', () => {
  it('come without a token, with a policy that allows nothing from elsewhere', async () => {
    const answer = await send([request(['GET / HTTP/1.1', own()])])
    expect(statusOf(answer)).toBe(200)
    expect(answer).toMatch(/content-security-policy: default-src 'none'; script-src 'self'; .*trusted-types dompurify/i)
    expect(answer).toMatch(/<script type="module" crossorigin src="\/assets\//)
    expect(answer).not.toContain(adminToken)
  })

  it('may be linked to from elsewhere, but neither read nor framed', async () => {
    const foreign = ['GET / HTTP/1.1', own(), 'Sec-Fetch-Site: cross-site']
    expect(statusOf(await send([request([...foreign, 'Sec-Fetch-Mode: navigate'])]))).toBe(200)
    expect(statusOf(await send([request([...foreign, 'Sec-Fetch-Mode: cors'])]))).toBe(403)
    const other = ['GET /api/status HTTP/1.1', own(), 'Sec-Fetch-Site: cross-site', 'Sec-Fetch-Mode: navigate']
    expect(statusOf(await send([request(other)]))).toBe(403)
  })
})

describe('too much', () => {
  const post = ['POST /v1/chat/completions HTTP/1.1', 'Content-Type: application/json']

  it('refuses 100 MB that are announced, before they come', async () => {
    const head = request([...post, own(), `Content-Length: ${100_000_000}`])
    expect(statusOf(await send([head]))).toBe(413)
  })

  it('refuses 100 MB that are not announced, after the first few', async () => {
    const megabyte = Buffer.alloc(1_000_000, 0x20)
    let sent = 0
    const body = function* () {
      yield request([...post, own(), 'Transfer-Encoding: chunked'])
      for (; sent < 100; sent++) {
        yield `${megabyte.length.toString(16)}\r\n`
        yield megabyte
        yield '\r\n'
      }
    }
    const answer = await send(body())
    expect([413, Number.NaN]).toContain(statusOf(answer))
    expect(sent).toBeLessThan(100)
  })

  it('gives up a body that does not come', async () => {
    const startMs = performance.now()
    const answer = await send([request([...post, own(), 'Content-Length: 100']), '{"model":'])
    expect([408, 400, Number.NaN]).toContain(statusOf(answer))
    expect(performance.now() - startMs).toBeLessThan(4_000)
  })

  it('gives up headers that do not come', async () => {
    const startMs = performance.now()
    expect(statusOf(await send([`GET /v1/models HTTP/1.1\r\n${own()}\r\nX-A: `]))).toBe(408)
    expect(performance.now() - startMs).toBeLessThan(4_000)
  })

  it('refuses a flood of headers', async () => {
    const many = Array.from({ length: 2_000 }, (_, i) => `X-${i}: ${'y'.repeat(20)}`)
    expect(statusOf(await send([request(['GET /v1/models HTTP/1.1', own(), ...many])]))).toBe(431)
    const long = ['GET /v1/models HTTP/1.1', own(), `X: ${'y'.repeat(100_000)}`]
    expect(statusOf(await send([request(long)]))).toBe(431)
  })

  it('goes on serving after all that', async () => {
    expect(statusOf(await send([request(['GET /v1/models HTTP/1.1', own()])]))).toBe(200)
  })
})

describe('keys', () => {
  const list = (url: string, key?: string) =>
    fetch(`${url}/v1/models`, key === undefined ? {} : { headers: { authorization: `Bearer ${key}` } })

  it('are not needed on loopback, and anywhere else they are', async () => {
    expect((await list(api.url)).status).toBe(200)
    const open = { ...api.node.config.api, host: '0.0.0.0', port: 0 }
    const deps = { node: api.node, logger: silentLogger }
    await expect(serveHttp({ home: api.home, config: open, token: adminToken }, deps)).rejects.toMatchObject({
      code: 'BAD_CONFIG',
    })
    const { secret } = await addApiKey(api.home, { name: 'bob', requestsPerMinute: 2, tokensPerMinute: null })
    const file = join(api.home.keysFolder, 'api-keys.json')
    expect((await stat(file)).mode & 0o777).toBe(0o600)
    expect(await readFile(file, 'utf8')).not.toContain(secret.slice(5))
    await expect(addApiKey(api.home, { name: 'bob', requestsPerMinute: 2, tokensPerMinute: null })).rejects.toThrow(
      /already/,
    )
    await expect(addApiKey(api.home, { name: 'eve', requestsPerMinute: 0, tokensPerMinute: null })).rejects.toThrow(
      /no limit/,
    )
    const server = await serveHttp({ home: api.home, config: open, token: adminToken }, deps)
    cleanup.add(async () => server.close())
    expect((await list(server.url)).status).toBe(401)
    expect((await list(server.url, 'llmn-wrong')).status).toBe(401)
    expect(await (await list(server.url, 'llmn-wrong')).json()).toMatchObject({ error: { code: 'invalid_api_key' } })
    expect((await fetch(`${server.url}/metrics`)).status).toBe(401)

    const first = await list(server.url, secret)
    expect(first.status).toBe(200)
    expect(first.headers.get('x-ratelimit-remaining-requests')).toBe('1')
    expect((await list(server.url, secret)).status).toBe(200)
    const third = await list(server.url, secret)
    expect(third.status).toBe(429)
    expect(Number(third.headers.get('retry-after'))).toBeGreaterThan(20)

    await removeApiKey(api.home, 'bob')
    expect((await list(server.url, secret)).status).toBe(401)
  })
})
