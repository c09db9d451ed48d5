import { signal } from '@preact/signals'
import { streamChat } from './chat-stream.ts'

interface DemoAnswer {
  readonly text: string
  readonly error: unknown
  /** While it runs. */
  readonly stop: (() => void) | undefined
}

/** The answer that the demo shows; it survives a change of pages. */
export const demoAnswer = signal<DemoAnswer>({ text: '', error: undefined, stop: undefined })

/** Long enough to kill something in the middle. */
const TOKENS = 1_200

export async function askDemo(model: string, prompt: string): Promise<void> {
  const stopping = new AbortController()
  demoAnswer.value = { text: '', error: undefined, stop: () => stopping.abort() }
  const end = (error: unknown) => {
    demoAnswer.value = { ...demoAnswer.value, error, stop: undefined }
  }
  try {
    const messages = [{ role: 'user' as const, content: prompt }]
    for await (const chunk of streamChat({ model, messages, max_tokens: TOKENS }, stopping.signal)) {
      const text = chunk.choices[0]?.delta.content ?? ''
      if (text !== '') demoAnswer.value = { ...demoAnswer.value, text: demoAnswer.value.text + text }
    }
    end(undefined)
  } catch (error) {
    end(stopping.signal.aborted ? undefined : error)
  }
}
