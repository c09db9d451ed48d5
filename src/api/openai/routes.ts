import { Hono } from 'hono'
import type { ApiEnv } from '../caller.ts'
import { chatCompletions } from './chat.ts'
import { completions } from './completions.ts'
import { embeddings } from './embeddings.ts'
import { openAiErrorBody, sendOpenAiError } from './errors.ts'
import { findModelObject, modelObjectOf } from './models.ts'
import type { OpenAiParts } from './parts.ts'

/** The OpenAI part, below /v1. */
export function createOpenAiRoutes(parts: OpenAiParts): Hono<ApiEnv> {
  const app = new Hono<ApiEnv>()
  app.get('/models', (c) => {
    return c.json({ object: 'list', data: parts.inference.models().map((card) => modelObjectOf(card)) })
  })
  app.get('/models/:id', (c) => c.json(findModelObject(parts.inference.models(), c.req.param('id'))))
  app.post('/chat/completions', (c) => chatCompletions(c, parts))
  app.post('/completions', (c) => completions(c, parts))
  app.post('/embeddings', (c) => embeddings(c, parts))
  app.all('*', (c) => {
    const message = `There is nothing at ${c.req.method} ${c.req.path}.`
    const llm_node = { code: 'BAD_INPUT', hint: null }
    return c.json(
      openAiErrorBody({ message, type: 'invalid_request_error', param: null, code: 'unknown_url', llm_node }),
      404,
    )
  })
  app.onError((thrown, c) => {
    const sent = sendOpenAiError(c, thrown)
    if (sent.status >= 500) parts.logger.warn({ err: thrown, requestId: c.var.requestId }, 'a request failed')
    return sent
  })
  return app
}
