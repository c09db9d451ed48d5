import { z } from 'zod'
import {
  coverageBody,
  errorBody,
  generationsBody,
  healthBody,
  pausedBody,
  peersBody,
  pingBody,
  sessionsBody,
  statusBody,
  stoppingBody,
  usageBody,
} from './bodies.ts'
import type { Endpoint } from './endpoint.ts'
import { helloEvent, nodeEvent } from './event-schema.ts'
import { homeEndpoints } from './home-endpoints.ts'
import { netcheckBody } from './net-bodies.ts'
import { chatChunk, chatCompletion, chatRequest } from './openai/chat-schema.ts'
import { completionRequest, textCompletion } from './openai/completion-schema.ts'
import { embeddingList, embeddingRequest } from './openai/embedding-schema.ts'
import { modelList, modelObject, openAiError } from './openai/model-schema.ts'
import { askSchema, pingSchema } from './types.ts'

const json = 'application/json'

export const endpoints: readonly Endpoint[] = [
  {
    method: 'get',
    path: '/v1/models',
    summary: 'The models that this node can ask.',
    access: 'key',
    response: { type: json, schema: modelList },
  },
  {
    method: 'get',
    path: '/v1/models/{id}',
    summary: 'One of them.',
    access: 'key',
    response: { type: json, schema: modelObject },
  },
  {
    method: 'post',
    path: '/v1/chat/completions',
    summary: 'Answers a chat; with stream: true as server-sent events that end with [DONE].',
    access: 'key',
    request: chatRequest,
    response: { type: json, schema: chatCompletion },
    stream: chatChunk,
  },
  {
    method: 'post',
    path: '/v1/completions',
    summary: 'Continues a text or token ids as they are, without a chat template.',
    access: 'key',
    request: completionRequest,
    response: { type: json, schema: textCompletion },
    stream: textCompletion,
  },
  {
    method: 'post',
    path: '/v1/embeddings',
    summary:
      'The mean over all tokens of the final hidden states (after the last layer and the final norm), scaled to length 1.',
    access: 'key',
    request: embeddingRequest,
    response: { type: json, schema: embeddingList },
  },
  {
    method: 'get',
    path: '/metrics',
    summary: "Counters in Prometheus' text format.",
    access: 'key',
    response: { type: 'text/plain', schema: null },
  },
  {
    method: 'get',
    path: '/api/health',
    summary: 'Answers as long as the node runs.',
    access: 'open',
    response: { type: json, schema: healthBody },
  },
  {
    method: 'get',
    path: '/api/openapi.json',
    summary: 'This document as OpenAPI 3.1.',
    access: 'open',
    response: { type: json, schema: null },
  },
  {
    method: 'get',
    path: '/api/status',
    summary: 'What the node does.',
    access: 'token',
    response: { type: json, schema: statusBody },
  },
  {
    method: 'get',
    path: '/api/peers',
    summary: 'The peers that it knows.',
    access: 'token',
    response: { type: json, schema: peersBody },
  },
  {
    method: 'post',
    path: '/api/ping',
    summary: 'Reaches a node by its .llm address: the way there, round trips, what it serves.',
    access: 'token',
    request: pingSchema,
    response: { type: json, schema: pingBody },
  },
  {
    method: 'get',
    path: '/api/netcheck',
    summary: 'How others reach this node, and what stands in the way; takes up to 2 s.',
    access: 'token',
    response: { type: json, schema: netcheckBody },
  },
  {
    method: 'get',
    path: '/api/coverage',
    summary: 'Which layers the swarm holds, and how often.',
    access: 'token',
    response: { type: json, schema: coverageBody },
  },
  {
    method: 'get',
    path: '/api/sessions',
    summary: 'Sessions that are held here for others.',
    access: 'token',
    response: { type: json, schema: sessionsBody },
  },
  {
    method: 'get',
    path: '/api/generations',
    summary: 'Answers that this node is working on, and the last ones.',
    access: 'token',
    response: { type: json, schema: generationsBody },
  },
  {
    method: 'get',
    path: '/api/events',
    summary:
      'What happens, as server-sent events: hello first, then changes. Ids increase; Last-Event-ID resumes where it still can.',
    access: 'token',
    response: { type: 'text/event-stream', schema: helloEvent },
    stream: nodeEvent,
  },
  {
    method: 'post',
    path: '/api/ask',
    summary: 'One answer as lines of JSON, for the command line.',
    access: 'token',
    request: askSchema,
    response: { type: 'application/x-ndjson', schema: null },
  },
  {
    method: 'get',
    path: '/api/usage',
    summary: 'Whether the best route of each peer leads through this node, and why not.',
    access: 'token',
    response: { type: json, schema: usageBody },
  },
  {
    method: 'delete',
    path: '/api/generations/{id}',
    summary: 'Ends an answer that is under way, also one that waits for missing layers.',
    access: 'token',
    response: { type: json, schema: stoppingBody },
  },
  {
    method: 'post',
    path: '/api/pause',
    summary: 'Serves nobody until /api/resume; running sessions go on.',
    access: 'token',
    response: { type: json, schema: pausedBody },
  },
  {
    method: 'post',
    path: '/api/resume',
    summary: 'Serves others again, as far as its hours, battery and load allow.',
    access: 'token',
    response: { type: json, schema: pausedBody },
  },
  {
    method: 'post',
    path: '/api/stop',
    summary: 'Stops the node.',
    access: 'token',
    response: { type: json, schema: stoppingBody },
  },
  ...homeEndpoints,
]

/** The OpenAPI 3.1 document, from the schemas that check the requests. */
export function openApiDocument(): Record<string, unknown> {
  const paths: Record<string, Record<string, unknown>> = {}
  for (const endpoint of endpoints) {
    paths[endpoint.path] = { ...paths[endpoint.path], [endpoint.method]: operationOf(endpoint) }
  }
  return {
    openapi: '3.1.0',
    info: { title: 'llm-node', version: '1', license: { name: 'Apache-2.0' } },
    servers: [{ url: 'http://127.0.0.1:5560' }],
    paths,
    components: {
      securitySchemes: {
        key: { type: 'http', scheme: 'bearer', description: 'An API key, where the node requires one.' },
        token: { type: 'http', scheme: 'bearer', description: 'The admin token.' },
      },
    },
  }
}

function operationOf({ path, summary, access, request, response, stream }: Endpoint) {
  const parameters = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => {
    return { name, in: 'path', required: true, schema: { type: 'string' } }
  })
  const failure = { [json]: { schema: jsonSchema(path.startsWith('/v1') ? openAiError : errorBody) } }
  const content = {
    [response.type]: { schema: response.schema === null ? {} : jsonSchema(response.schema) },
    ...(stream === undefined || response.type !== json ? {} : { 'text/event-stream': { schema: jsonSchema(stream) } }),
  }
  return {
    summary,
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(access === 'open' ? {} : { security: access === 'key' ? [{ key: [] }, {}] : [{ token: [] }] }),
    ...(request === undefined
      ? {}
      : { requestBody: { required: true, content: { [json]: { schema: jsonSchema(request, 'input') } } } }),
    responses: {
      200: { description: 'The answer.', content },
      default: { description: 'A failure.', content: failure },
    },
  }
}

/** `input`: as a client writes it. */
export function jsonSchema(schema: z.ZodType, io: 'input' | 'output' = 'output'): Record<string, unknown> {
  const { $schema, ...rest } = z.toJSONSchema(schema, {
    io,
    unrepresentable: 'any',
    override({ jsonSchema: node }) {
      // Zod marks immutable arrays so; in OpenAPI it would mean that a client must not send them.
      delete node.readOnly
      // The bounds of safe integers are no news.
      if (node.type === 'integer' && node.maximum === Number.MAX_SAFE_INTEGER) delete node.maximum
      if (node.type === 'integer' && node.minimum === Number.MIN_SAFE_INTEGER) delete node.minimum
    },
  }) as Record<string, unknown>
  return rest
}
