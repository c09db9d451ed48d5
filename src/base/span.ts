import { LlmNodeError } from './errors.ts'

/** Layers `[start, end)`: `{ start: 0, end: 4 }` holds layers 0, 1, 2 and 3. */
export interface Span {
  readonly start: number
  readonly end: number
}

export function spanLength(span: Span): number {
  return span.end - span.start
}

export function spanContains(outer: Span, inner: Span): boolean {
  return outer.start <= inner.start && inner.end <= outer.end
}

/** For people: "4-7", or "4" for one layer. Both ends are included, as people count. */
export function formatSpan(span: Span): string {
  return spanLength(span) === 1 ? `${span.start}` : `${span.start}-${span.end - 1}`
}

/** Reads what formatSpan writes ("4-7", "4"). Throws BAD_INPUT. */
export function parseSpan(text: string): Span {
  const match = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(text.trim())
  const start = Number(match?.[1])
  const end = Number(match?.[2] ?? match?.[1]) + 1
  if (!match || end <= start) {
    throw new LlmNodeError('BAD_INPUT', `"${text}" is not a range of layers.`, {
      hint: 'Write the first and the last layer, for example 4-7, or one layer, for example 4.',
    })
  }
  return { start, end }
}
