import type { Tokenizer } from '../model/tokenizer.ts'
import type { GeneratedToken } from './generate.ts'

/** A token as text: `text` has U+FFFD where the bytes are no whole character. */
export interface TokenText {
  readonly id: number
  readonly text: string
  readonly bytes: readonly number[]
  /** Natural logarithm of the probability that the model gave it. */
  readonly logprob: number
}

/** One generated token of an answer, with what it was chosen among. */
export interface AnswerToken extends TokenText {
  /** Where its text begins in the answer, in UTF-16 units. */
  readonly offset: number
  /** The most probable tokens at this place, best first. */
  readonly top: readonly TokenText[]
}

/** Keeps drawn tokens until the text they belong to is given out. Holds nothing when no logprobs are drawn. */
export interface TokenTrail {
  push(token: GeneratedToken, offset: number): void
  /** The waiting tokens whose text begins before `end`. */
  take(end: number): AnswerToken[]
}

export function createTokenTrail(tokenizer: Tokenizer): TokenTrail {
  const waiting: AnswerToken[] = []
  const describe = ({ id, logprob }: { id: number; logprob: number }): TokenText => {
    return { id, text: tokenizer.tokenText(id), bytes: [...tokenizer.tokenBytes(id)], logprob }
  }
  return {
    push({ id, logprob, top = [] }, offset) {
      if (logprob !== undefined) waiting.push({ ...describe({ id, logprob }), offset, top: top.map(describe) })
    },
    take(end) {
      const next = waiting.findIndex((token) => token.offset >= end)
      return waiting.splice(0, next < 0 ? waiting.length : next)
    },
  }
}
