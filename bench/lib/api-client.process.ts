/** The clients of bench/api.ts, in a process of their own: `node api-client.process.ts JSON`, answers one JSON line. */

export interface ClientPlan {
  readonly url: string
  readonly clients: number
  readonly seconds: number
  readonly maxTokens: number
}

export interface ClientRun {
  readonly seed: number
  /** Different answers to the same request: one, unless streams were mixed up. */
  readonly texts: readonly string[]
  readonly tokens: number
  /** From the first token to the last, over all answers. */
  readonly ms: number
  readonly refused: number
}

const prompts = ['Where does the fox live?', 'Tell me a story about a bear.', 'What is two plus two?', 'Who are you?']
const plan: ClientPlan = JSON.parse(process.argv[2] ?? '{}')
const deadlineMs = performance.now() + plan.seconds * 1000

async function answer(seed: number): Promise<{ text: string; tokens: number; ms: number } | undefined> {
  const prompt = prompts[seed % prompts.length]
  const response = await fetch(`${plan.url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      model: 'demo-qwen3@local',
      prompt,
      seed,
      max_tokens: plan.maxTokens,
      temperature: 1,
      ignore_eos: true,
      stream: true,
      stream_options: { include_usage: true },
    }),
  })
  if (response.status === 429) return undefined
  if (response.body === null || !response.ok) throw new Error(`status ${response.status}: ${await response.text()}`)
  let rest = ''
  let text = ''
  let tokens = 0
  let firstMs = 0
  let lastMs = 0
  for await (const piece of response.body.pipeThrough(new TextDecoderStream())) {
    const blocks = (rest + piece).split('\n\n')
    rest = blocks.pop() ?? ''
    for (const block of blocks) {
      if (block === 'data: [DONE]') continue
      const { choices, usage } = JSON.parse(block.slice(6))
      if (usage) tokens = usage.completion_tokens
      const delta: string = choices[0]?.text ?? ''
      if (delta === '') continue
      lastMs = performance.now()
      if (text === '') firstMs = lastMs
      text += delta
    }
  }
  return { text, tokens: tokens - 1, ms: lastMs - firstMs }
}

async function client(seed: number): Promise<ClientRun> {
  const texts = new Set<string>()
  const sum = { tokens: 0, ms: 0, refused: 0 }
  do {
    const found = await answer(seed)
    if (found === undefined) {
      sum.refused++
      await new Promise((resolve) => setTimeout(resolve, 200))
      continue
    }
    texts.add(found.text)
    sum.tokens += found.tokens
    sum.ms += found.ms
  } while (performance.now() < deadlineMs)
  return { seed, texts: [...texts], ...sum }
}

const runs = await Promise.all(Array.from({ length: plan.clients }, (_, seed) => client(seed)))
process.stdout.write(`${JSON.stringify(runs)}\n`)
