import { signal } from '@preact/signals'
import type { ChatCall } from './chat-stream.ts'
import { streamChat } from './chat-stream.ts'

interface DemoAnswer {
  readonly text: string
  readonly failovers: number
  /** The same question once more, undisturbed: whether every byte was the same. */
  readonly same: 'not asked' | 'asking' | 'yes' | 'no'
  readonly error: unknown
  /** While it runs. */
  readonly stop: (() => void) | undefined
}

const fresh: DemoAnswer = { text: '', failovers: 0, same: 'not asked', error: undefined, stop: undefined }

/** The answer that the demo shows; it survives a change of pages. */
export const demoAnswer = signal<DemoAnswer>(fresh)

/** Past the model's own end, so that there is time to kill something in the middle. */
const TOKENS = 1_200

/** Asks; when a node failed meanwhile, asks the same again and compares. */
export async function askDemo(model: string, prompt: string): Promise<void> {
  const stopping = new AbortController()
  const { signal: stopped } = stopping
  const change = (next: Partial<DemoAnswer>) => {
    demoAnswer.value = { ...demoAnswer.value, ...next }
  }
  demoAnswer.value = { ...fresh, stop: () => stopping.abort() }
  const messages = [{ role: 'user' as const, content: prompt }]
  const seed = Math.floor(Math.random() * 2 ** 31)
  const call: ChatCall = { model, messages, max_tokens: TOKENS, ignore_eos: true, seed }
  try {
    const first = await read(call, stopped, (text) => change({ text }))
    change({ failovers: first.failovers })
    if (first.failovers > 0) {
      change({ same: 'asking' })
      const second = await read(call, stopped, () => {})
      change({ same: second.text === first.text ? 'yes' : 'no' })
    }
  } catch (error) {
    change({ error: stopped.aborted ? undefined : error })
  }
  change({ stop: undefined })
}

async function read(call: ChatCall, stopped: AbortSignal, onText: (text: string) => void) {
  let text = ''
  let failovers = 0
  for await (const { choices, llm_node } of streamChat(call, stopped)) {
    text += choices[0]?.delta.content ?? ''
    failovers = llm_node?.failovers ?? failovers
    onText(text)
  }
  return { text, failovers }
}
