import { describe, expect, it } from 'vitest'
import { createEventLog } from '../../../src/api/event-log.ts'
import { createSetupApp } from '../../../src/api/setup-app.ts'
import { type SetupBody, type SetupControl, setupBody } from '../../../src/api/setup-schema.ts'
import { LlmNodeError } from '../../../src/base/errors.ts'

const token = 's'.repeat(48)
const state: SetupBody = {
  phase: 'choosing',
  machine: null,
  network: { name: 'test', private: false, looking: false, peers: [] },
  bundled: '/models/demo',
  catalogue: [],
  held: [],
  pending: null,
  shareMiB: null,
  plan: null,
  layers: null,
  progress: null,
  tests: [],
  error: null,
  node: null,
}

function start() {
  const calls: unknown[] = []
  const control: SetupControl = {
    state: () => state,
    network: async (request) => void calls.push(request),
    share: (request) => void calls.push(request),
    plan: async (request) => void calls.push(request),
    cost() {
      throw new LlmNodeError('BAD_INPUT', 'There is no plan yet.', { hint: 'Choose a model first.' })
    },
    fetch: (request) => void calls.push(request),
    pause: () => void calls.push('pause'),
  }
  const events = createEventLog({ startedMs: 0 })
  const pages = { find: async () => undefined }
  const app = createSetupApp({ token, loopback: true, allowedHosts: [] }, { control, events, pages })
  const send = (path: string, { body, headers = {} }: { body?: unknown; headers?: Record<string, string> } = {}) => {
    const init = body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }
    return app.request(path, {
      ...init,
      headers: {
        host: '127.0.0.1:1234',
        authorization: `Bearer ${token}`,
        'content-type': 'application/json',
        ...headers,
      },
    })
  }
  return { send, calls }
}

describe('the server of the wizard', () => {
  it('tells its state, and takes what the pages send', async () => {
    const { send, calls } = start()
    expect(await (await send('/api/health')).json()).toEqual({ ok: true, kind: 'setup' })
    expect(setupBody.parse(await (await send('/api/setup')).json())).toEqual(state)
    const bodies = [
      ['network', { name: 'home' }],
      ['share', { memoryMiB: 1_024 }],
      ['plan', { model: 'Qwen/Qwen3-0.6B' }],
      ['fetch', { layers: '4-7', ends: true }],
    ] as const
    for (const [verb, body] of bodies) expect((await send(`/api/setup/${verb}`, { body })).status).toBe(200)
    expect((await send('/api/setup/pause', { body: {} })).status).toBe(200)
    expect(calls).toEqual([...bodies.map(([, body]) => body), 'pause'])
  })

  it('says what is wrong with a request, and what to do', async () => {
    const { send, calls } = start()
    const cost = await send('/api/setup/cost', { body: { layers: '0-3' } })
    expect(cost.status).toBe(400)
    expect(await cost.json()).toMatchObject({ error: { code: 'BAD_INPUT', hint: 'Choose a model first.' } })
    for (const body of [{}, { name: 1 }, { name: 'x', more: 1 }]) {
      expect((await send('/api/setup/network', { body })).status).toBe(400)
    }
    expect((await send('/api/setup/share', { body: { memoryMiB: 511 } })).status).toBe(400)
    expect(calls).toEqual([])
  })

  it('is for nobody without the token, and for no page of others', async () => {
    const { send, calls } = start()
    const body = { layers: 'all', ends: true }
    for (const headers of [{ authorization: '' }, { authorization: `Bearer ${'x'.repeat(48)}` }]) {
      expect((await send('/api/setup', { headers })).status).toBe(401)
      expect((await send('/api/setup/fetch', { body, headers })).status).toBe(401)
      expect((await send('/api/events', { headers })).status).toBe(401)
    }
    for (const headers of [
      { host: 'evil.example' },
      { origin: 'http://evil.example' },
      { 'sec-fetch-site': 'cross-site' },
    ]) {
      expect((await send('/api/setup/fetch', { body, headers })).status).toBe(403)
    }
    expect(calls).toEqual([])
  })
})
