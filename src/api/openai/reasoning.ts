import type { Thinking } from '../../pipeline/prompt.ts'

export interface AnswerPart {
  readonly reasoning: string
  readonly content: string
}

/** Divides an answer that comes in pieces into what stands in its think block and what follows. */
export interface ReasoningSplitter {
  push(text: string): AnswerPart
  /** What was held back at the end. */
  flush(): AnswerPart
}

const OPEN = '<think>'
const CLOSE = '</think>'

/**
 * The block may only stand at the beginning. The line breaks that models write around it belong to neither part. An
 * answer that ends within the block is all reasoning.
 */
export function createReasoningSplitter(thinking: Thinking): ReasoningSplitter {
  let state: 'before' | 'within' | 'after' | 'content' =
    thinking === 'none' ? 'content' : thinking === 'open' ? 'within' : 'before'
  let held = ''
  /** At the start of the block its first line breaks are dropped. */
  let begun = false

  const within = (text: string, final: boolean): AnswerPart => {
    const fresh = begun ? text : text.trimStart()
    begun ||= fresh !== ''
    const end = fresh.indexOf(CLOSE)
    if (end >= 0) {
      state = 'after'
      const rest = after(fresh.slice(end + CLOSE.length))
      return { reasoning: fresh.slice(0, end).trimEnd(), content: rest }
    }
    const keep = final ? fresh.trimEnd().length : settledLength(fresh)
    held = final ? '' : fresh.slice(keep)
    return { reasoning: fresh.slice(0, keep), content: '' }
  }
  const after = (text: string): string => {
    const fresh = text.trimStart()
    if (fresh !== '') state = 'content'
    return fresh
  }
  const step = (text: string, final: boolean): AnswerPart => {
    held = ''
    if (state === 'content') return { reasoning: '', content: text }
    if (state === 'after') return { reasoning: '', content: after(text) }
    if (state === 'within') return within(text, final)
    const start = text.trimStart()
    if (start.startsWith(OPEN)) {
      state = 'within'
      return within(start.slice(OPEN.length), final)
    }
    if (!final && OPEN.startsWith(start)) {
      held = text
      return { reasoning: '', content: '' }
    }
    state = 'content'
    return { reasoning: '', content: text }
  }
  return {
    push: (text) => (text === '' ? { reasoning: '', content: '' } : step(held + text, false)),
    flush: () => (held === '' ? { reasoning: '', content: '' } : step(held, true)),
  }
}

/** How much of `text` can neither be the beginning of the closing mark nor the space before it. */
function settledLength(text: string): number {
  for (let length = Math.min(CLOSE.length - 1, text.length); length > 0; length--) {
    if (text.endsWith(CLOSE.slice(0, length))) return text.slice(0, text.length - length).trimEnd().length
  }
  return text.trimEnd().length
}
