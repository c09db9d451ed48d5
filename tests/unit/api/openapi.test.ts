import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { apiDocs } from '../../../src/api/api-docs.ts'
import { endpoints, openApiDocument } from '../../../src/api/openapi.ts'
import { createTestApi, token } from './app-helpers.ts'

describe('docs/api.md', () => {
  it('is what scripts/api-docs.mjs writes', () => {
    const path = new URL('../../../docs/api.md', import.meta.url)
    expect(readFileSync(path, 'utf8') === apiDocs(), 'run: node scripts/api-docs.mjs').toBe(true)
  })
})

describe('the OpenAPI document', () => {
  it('is served to everybody', async () => {
    const response = await createTestApi().request('/api/openapi.json')
    expect(response.status).toBe(200)
    expect(await response.json()).toEqual(JSON.parse(JSON.stringify(openApiDocument())))
  })

  it('tells the fields as clients write them, with their bounds', () => {
    const document = JSON.parse(JSON.stringify(openApiDocument()))
    const chat = document.paths['/v1/chat/completions'].post
    const { properties, required, additionalProperties } = chat.requestBody.content['application/json'].schema
    expect(required).toEqual(['model', 'messages'])
    expect(additionalProperties).toBe(false)
    expect(JSON.stringify(properties.temperature)).toContain('"maximum":2')
    expect(chat.responses['200'].content).toHaveProperty(['text/event-stream'])
    expect(JSON.stringify(document)).not.toMatch(/readOnly|\$schema/)
  })

  it('names what exists: every path answers, with the right access', async () => {
    const api = createTestApi()
    for (const { method, path, access } of endpoints) {
      if (path === '/api/events') continue
      const init = { method: method.toUpperCase(), headers: { 'content-type': 'application/json' } }
      const send = (headers: Record<string, string>) =>
        api.request(path.replace('{id}', 'demo'), {
          ...init,
          headers: { ...init.headers, ...headers },
          ...(method === 'post' ? { body: '{}' } : {}),
        })
      const bare = await send({})
      expect([path, bare.status]).toEqual([path, access === 'token' ? 401 : method === 'post' ? 400 : 200])
      const admin = await send({ authorization: `Bearer ${token}` })
      const answered = method === 'delete' ? [202, 404] : [200, 202, 400]
      expect([path, answered.includes(admin.status)]).toEqual([path, true])
    }
  })
})
