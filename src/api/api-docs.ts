import type { Endpoint } from './endpoint.ts'
import { openAiErrorTable } from './openai/errors.ts'
import { endpoints, jsonSchema } from './openapi.ts'

/** The page docs/api.md, from the same schemas as the OpenAPI document. Written by scripts/api-docs.mjs. */
export function apiDocs(): string {
  return `${[intro, ...endpoints.map(section), errors()].join('\n\n')}\n`
}

const intro = `# The HTTP API

<!-- Written by scripts/api-docs.mjs from the schemas in src/api: change those, then run it. -->

A running node (\`llm-node start\`) listens on http://127.0.0.1:5560, or on any free port when that one is taken; \`start\`
prints the address. There are two parts:

- **\`/v1\`**, compatible with OpenAI's API: point any client at \`http://127.0.0.1:5560/v1\`.
- **\`/api\`**, for this node's owner: its state, events, and stopping it. It needs the token that the running node keeps
  in its home (\`state/run.json\`, readable by its user only), as \`authorization: Bearer TOKEN\`.

\`\`\`sh
curl http://127.0.0.1:5560/v1/chat/completions -H 'content-type: application/json' -d '{
  "model": "demo-qwen3",
  "messages": [{ "role": "user", "content": "Where does the fox live?" }]
}'
\`\`\`

\`\`\`sh
curl -N http://127.0.0.1:5560/v1/chat/completions -H 'content-type: application/json' -d '{
  "model": "demo-qwen3",
  "messages": [{ "role": "user", "content": "Where does the fox live?" }],
  "stream": true,
  "stream_options": { "include_usage": true }
}'
\`\`\`

\`\`\`sh
curl http://127.0.0.1:5560/api/status -H "authorization: Bearer $TOKEN"
\`\`\`

## Which model, and where it runs

\`model\` is a name from \`GET /v1/models\`. With \`@local\` all layers are computed by this node (it has to hold them), with
\`@swarm\` all by others; without, layers held here at either end are computed here and the rest elsewhere. A peer that
computes layers for you can reconstruct your text. \`MODEL@ADDRESS.llm\` lets the node of that address generate, through
relays where the privacy profile says so; this node then needs no weights, and the other one has to allow it.

## Keys

On loopback no key is needed, and any key that a client sends is taken. \`llm-node keys add NAME\` makes one,
\`--requests-per-minute\` and \`--tokens-per-minute\` limit it, \`keys ls\` lists them and \`keys rm NAME\` takes one away at
once. The node keeps only hashes. With \`"api": {"requireKey": true}\` in the configuration, and always when the API
listens on another address (\`--api-host\`), requests to \`/v1\` and \`/metrics\` without a known key are refused.

Requests whose Host is a name that this node does not know (\`api.allowedHosts\`), or that come from a page of another
site, are refused. Bodies have at most 4 MiB.

## What is different from OpenAI

- Sampling fields that are absent come from the model's own generation_config.json. \`top_k\`, \`min_p\`,
  \`repetition_penalty\`, \`ignore_eos\` and \`chat_template_kwargs\` are taken as well. The same request with the same \`seed\` has the same
  answer, whichever nodes compute it, as long as \`llm_node.exact\` is true.
- \`max_tokens\` is 512 when absent (16 for /v1/completions), or what is left of the model's context.
- What a model thinks in \`<think>\` comes in \`reasoning_content\`; \`logprobs\` cover those tokens as well.
- Tools, images, audio, several choices and JSON formats are not supported: 400 names the field.
- What OpenAI does not have stands only under \`llm_node\`.
- A client that goes away ends its generation; the memory on every node is free within a second.
- Embeddings are the mean of the final hidden states; a model that was not trained for embeddings gives a rough measure
  of likeness, no more.

## Events

\`GET /api/events\` begins with \`hello\`: load \`/api/status\`, \`/api/peers\`, \`/api/coverage\` and \`/api/generations\` when its
\`resumed\` is false, and apply the events that follow. After a break send the last id as \`Last-Event-ID\`. A comment comes
every 15 s.`

const accessText = {
  key: 'Needs a key where the node requires one.',
  token: 'Needs the admin token.',
  open: 'Open.',
} as const

function section({ method, path, summary, access, request, response, stream }: Endpoint): string {
  const parts = [`## ${method.toUpperCase()} ${path}`, `${summary} ${accessText[access]}`]
  if (request !== undefined) parts.push(`Request:\n\n${table(jsonSchema(request, 'input'), requestMark)}`)
  const isEvents = response.type === 'text/event-stream'
  if (response.schema !== null && !isEvents) parts.push(`Answer:\n\n${table(jsonSchema(response.schema), answerMark)}`)
  if (stream !== undefined && stream !== response.schema) {
    parts.push(`${isEvents ? 'Events' : 'Each event of a stream'}:\n\n${table(jsonSchema(stream), answerMark)}`)
  }
  return parts.join('\n\n')
}

function errors(): string {
  const rows = openAiErrorTable().map(
    ({ code, status, type, openAiCode, retries }) =>
      `| ${status} | ${type} | ${openAiCode ?? 'null'} | ${code} | ${retries ? 'Retry-After' : ''} |`,
  )
  return `## Errors

\`{"error": {"message", "type", "param", "code", "llm_node": {"code", "hint"}}}\`; every answer has an \`x-request-id\`. An
error after a stream has begun is its last event, without \`[DONE]\`. Below \`/api\`: \`{"error": {"code", "message", "hint"}}\`.

| status | type | code | llm_node.code | |
| --- | --- | --- | --- | --- |
| 401 | invalid_request_error | invalid_api_key | AUTH_FAILED | |
${rows.join('\n')}`
}

/** What is said of a field by whether it has to be there. */
type Mark = (required: boolean) => string
const requestMark: Mark = (required) => (required ? 'Required.' : '')
const answerMark: Mark = (required) => (required ? '' : 'Not always there.')

type Schema = Readonly<Record<string, unknown>>

/** One row for each field, nested ones with their path: messages[].role. */
function table(schema: Schema, mark: Mark): string {
  const rows = rowsOf(schema, '', mark)
  return `| field | type | |\n| --- | --- | --- |\n${rows.join('\n')}`
}

function rowsOf(schema: Schema, path: string, mark: Mark): string[] {
  const variants = listOf(schema.oneOf ?? schema.anyOf).filter((each) => each.type !== 'null')
  const [only] = variants
  if (variants.length === 1 && only !== undefined)
    return rowsOf({ ...only, description: schema.description }, path, mark)
  if (variants.length > 1) return variants.flatMap((each) => rowsOf(each, path, mark))
  if (schema.type === 'array' && isSchema(schema.items)) return rowsOf(schema.items, `${path}[]`, mark)
  if (!isSchema(schema.properties)) return []
  const required = new Set(Array.isArray(schema.required) ? schema.required : [])
  return Object.entries(schema.properties).flatMap(([name, value]) => {
    const property = value as Schema
    const full = path === '' ? name : `${path}.${name}`
    const about = [mark(required.has(name)), rangeText(property), descriptionOf(property)]
    const row = `| \`${full}\` | ${typeText(property)} | ${about.filter((text) => text !== '').join(' ')} |`
    return [row, ...rowsOf(property, full, mark)]
  })
}

function typeText(schema: Schema): string {
  const variants = listOf(schema.oneOf ?? schema.anyOf)
  if (variants.length > 0) return [...new Set(variants.map(typeText))].join(' or ')
  if (schema.const !== undefined) return `\`${JSON.stringify(schema.const)}\``
  if (Array.isArray(schema.enum)) return schema.enum.map((value) => `\`${JSON.stringify(value)}\``).join(' or ')
  if (schema.type === 'array') return `list of ${isSchema(schema.items) ? typeText(schema.items) : 'anything'}`
  if (Array.isArray(schema.type)) return schema.type.join(' or ')
  return typeof schema.type === 'string' ? schema.type : 'anything'
}

function rangeText(schema: Schema): string {
  const variants = listOf(schema.anyOf).filter((each) => each.type !== 'null')
  const only = variants.length === 1 && variants[0] !== undefined ? variants[0] : schema
  const { minimum, maximum, exclusiveMinimum } = only
  const low = minimum ?? exclusiveMinimum
  if (low === undefined && maximum === undefined) return ''
  if (maximum === undefined) return `${minimum === undefined ? 'More than' : 'At least'} ${low}.`
  return `${low ?? 'Up'} to ${maximum}.`
}

function descriptionOf(schema: Schema): string {
  if (typeof schema.description === 'string') return schema.description
  const described = listOf(schema.anyOf).find((each) => typeof each.description === 'string')
  return String(described?.description ?? '')
}

function listOf(value: unknown): Schema[] {
  return Array.isArray(value) ? value.filter(isSchema) : []
}

function isSchema(value: unknown): value is Schema {
  return typeof value === 'object' && value !== null
}
