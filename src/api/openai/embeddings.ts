import type { ApiContext } from '../caller.ts'
import { type EmbeddingList, embeddingRequest } from './embedding-schema.ts'
import { resolveModel } from './generation.ts'
import { account, goneWith, type OpenAiParts, readBody } from './parts.ts'

/** POST /v1/embeddings: one text after the other, each over all layers. */
export async function embeddings(c: ApiContext, parts: OpenAiParts): Promise<Response> {
  const body = await readBody(c, embeddingRequest)
  const { card, where } = resolveModel(parts.inference.models(), body.model)
  const exit = parts.admission.enter()
  const { signal } = goneWith(c)
  try {
    const call = { model: card.name, where, profile: body.llm_node?.profile }
    const data: EmbeddingList['data'] = []
    let nTokens = 0
    for (const [index, prompt] of body.input.entries()) {
      const found = await parts.inference.embed({ ...call, prompt }, signal)
      nTokens += found.promptTokens
      const embedding = body.encoding_format === 'base64' ? toBase64(found.vector) : [...found.vector]
      data.push({ object: 'embedding', index, embedding })
    }
    const usage = { prompt_tokens: nTokens, total_tokens: nTokens }
    account(c, parts, usage)
    return c.json({ object: 'list', data, model: body.model, usage } satisfies EmbeddingList)
  } finally {
    exit()
  }
}

/** Little-endian f32, whatever this machine's order is. */
function toBase64(vector: Float32Array): string {
  const bytes = Buffer.alloc(vector.length * 4)
  for (const [i, value] of vector.entries()) bytes.writeFloatLE(value, i * 4)
  return bytes.toString('base64')
}
