import { type AnswerToken, createTokenTrail } from './answer-tokens.ts'
import type { WayNews } from './attempts.ts'
import type { ChainHop } from './chain.ts'
import type { OpenedChain } from './entry.ts'
import type { FinishReason, generate } from './generate.ts'
import type { Mailbox } from './mailbox.ts'
import { createStopDetector } from './stop-detector.ts'
import type { TextModel } from './text-model.ts'

/** An answer while it comes. */
export type TextProgress =
  /** `tokens` only with `sampling.logprobs`; a token comes with the first part of its text. */
  | { readonly type: 'text'; readonly text: string; readonly tokens?: readonly AnswerToken[] }
  /** What happened to its way before token `index`. */
  | ({ readonly index: number } & WayNews)
  /** Who computes now, with what it takes: told at times, and when it has changed. */
  | { readonly type: 'hops'; readonly hops: readonly ChainHop[]; readonly exact: boolean }

interface ReadAnswer {
  readonly text: string
  /** Generated ids, without the end token. */
  readonly tokens: readonly number[]
  readonly finishReason: FinishReason
  readonly tokensPerSecond: number | null
}

/** The same as progress of an answer that has so many tokens. */
function* progressOf(news: readonly WayNews[], index: number): Generator<TextProgress> {
  for (const each of news) yield { ...each, index }
}

/** Waits for `coming`, telling the news meanwhile. */
export async function* telling<T>(
  coming: Promise<T>,
  news: Mailbox<WayNews>,
  index: number,
): AsyncGenerator<TextProgress, T> {
  while (await news.comesBefore(coming)) yield* progressOf(news.take(), index)
  return coming
}

/** What has come so far; also after an error. */
export interface TextSoFar {
  text: string
  readonly ids: number[]
}

interface ReadOptions {
  readonly news: Mailbox<WayNews>
  readonly soFar: TextSoFar
  /** Ids that were said before. */
  readonly begun: readonly number[]
  current(): OpenedChain | undefined
}

/** How often a running answer tells what its hops take. */
const HOPS_MS = 500

/** Text as it settles; a stop string ends the answer before it and is not part of it. */
export async function* readText(
  generated: ReturnType<typeof generate>,
  { news, soFar, begun, current }: ReadOptions,
  text: TextModel,
  stop: readonly string[],
): AsyncGenerator<TextProgress, ReadAnswer> {
  const detokenizer = text.tokenizer.createDetokenizer({ skipSpecialTokens: true })
  const detector = createStopDetector(stop)
  const trail = createTokenTrail(text.tokenizer)
  const { ids } = soFar
  let produced = 0
  let finishReason: FinishReason = 'stop'
  let firstMs = 0
  let lastMs = 0
  let toldMs = 0
  // What was said before a restart is said again, as one piece.
  for (const id of begun) {
    ids.push(id)
    const delta = detokenizer.push(id)
    produced += delta.length
    soFar.text += detector.push(delta).text
  }
  if (soFar.text !== '') yield { type: 'text', text: soFar.text }
  for (;;) {
    const known = news.count
    const next = yield* telling(generated.next(), news, ids.length)
    if (news.count > known) toldMs = 0
    if (!next.done) {
      lastMs = performance.now()
      const opened = lastMs - toldMs > HOPS_MS ? current() : undefined
      if (opened !== undefined) {
        toldMs = lastMs
        yield { type: 'hops', hops: opened.chain.hops, exact: opened.exact }
      }
      if (firstMs === 0) firstMs = lastMs
      ids.push(next.value.id)
      trail.push(next.value, produced)
    }
    const delta = next.done ? detokenizer.flush() : detokenizer.push(next.value.id)
    produced += delta.length
    const found = detector.push(delta)
    const settled = next.done && !found.stopped ? found.text + detector.flush() : found.text
    soFar.text += settled
    const tokens = trail.take(next.done && !found.stopped ? Number.POSITIVE_INFINITY : soFar.text.length)
    if (settled !== '' || tokens.length > 0)
      yield { type: 'text', text: settled, ...(tokens.length > 0 ? { tokens } : {}) }
    if (found.stopped) await generated.return('stop')
    if (next.done) finishReason = next.value
    if (next.done || found.stopped) break
  }
  const steps = ids.length - begun.length - 1
  return {
    text: soFar.text,
    tokens: ids,
    finishReason,
    tokensPerSecond: steps < 1 ? null : (steps * 1000) / (lastMs - firstMs),
  }
}
