/** Fewer equal ids before the place are chance: common pairs of tokens come back everywhere. */
const MIN_MATCH = 2
/** More equal ids say no more about what follows. */
const MAX_MATCH = 8

/**
 * Guesses how the transcript goes on: looks up where its last ids stood before and proposes what followed there, at most
 * `maxRows` ids ([] without such a place). The place with the longest match wins, then the latest; past the transcript's
 * end the guess goes on from itself, so a repetition is proposed at full length. Pure; costs one pass over the ids.
 * Source: prompt look-up decoding (A. Saxena, 2023). Wrong guesses cost rows, never correctness (engine.md §8).
 */
export function proposeDraft(transcript: readonly number[], maxRows: number): number[] {
  const end = transcript.length
  const last = transcript[end - 1]
  let place = -1
  let longest = MIN_MATCH - 1
  for (let at = end - 1; at >= MIN_MATCH && longest < MAX_MATCH; at--) {
    if (transcript[at - 1] !== last) continue
    let length = 1
    while (length < MAX_MATCH && length < at && transcript[at - 1 - length] === transcript[end - 1 - length]) length++
    if (length > longest) {
      longest = length
      place = at
    }
  }
  const draft: number[] = []
  if (place < 0) return draft
  for (let row = 0; row < maxRows; row++) {
    const id = transcript[place + row] ?? draft[place + row - end]
    if (id === undefined) break
    draft.push(id)
  }
  return draft
}
