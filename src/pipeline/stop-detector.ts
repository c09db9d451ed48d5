import { assertInput } from '../base/errors.ts'
import { pipelineLimits } from '../base/limits.ts'

/** Looks for stop strings in a text that comes in pieces, wherever the pieces are cut. */
export interface StopDetector {
  /** The text that can be shown now: what might still become a stop string is held back. Nothing after a stop. */
  push(delta: string): StopResult
  /** What was held back at the end of the text; '' after a stop. */
  flush(): string
}

export interface StopResult {
  readonly text: string
  /** A stop string has come: `text` ends before it, and the answer is over. */
  readonly stopped: boolean
}

/**
 * The text ends at the stop string that is complete first; of several complete at once, at the longest. So the result
 * does not depend on how the text was cut. Throws BAD_INPUT on an empty stop string or too many.
 */
export function createStopDetector(stops: readonly string[]): StopDetector {
  assertInput(stops.length <= pipelineLimits.stopStrings, `More than ${pipelineLimits.stopStrings} stop strings.`)
  for (const stop of stops) {
    const fits = stop.length > 0 && stop.length <= pipelineLimits.stopCharacters
    assertInput(fits, `A stop string has 1 to ${pipelineLimits.stopCharacters} characters.`)
  }
  let held = ''
  let stopped = false
  return {
    push(delta) {
      if (stopped) return { text: '', stopped }
      const text = held + delta
      const at = firstStop(text, stops)
      stopped = at !== undefined
      const end = at ?? text.length - heldLength(text, stops)
      held = stopped ? '' : text.slice(end)
      return { text: text.slice(0, end), stopped }
    },
    flush() {
      const rest = held
      held = ''
      return rest
    },
  }
}

/** Where the stop string begins that ends first in `text`. */
function firstStop(text: string, stops: readonly string[]): number | undefined {
  let start: number | undefined
  let end = Number.POSITIVE_INFINITY
  for (const stop of stops) {
    const at = text.indexOf(stop)
    if (at < 0) continue
    const stopEnd = at + stop.length
    if (stopEnd < end || (stopEnd === end && at < (start ?? at))) {
      start = at
      end = stopEnd
    }
  }
  return start
}

/** Length of the longest end of `text` that some stop string begins with. */
function heldLength(text: string, stops: readonly string[]): number {
  let longest = 0
  for (const stop of stops) {
    for (let length = Math.min(stop.length - 1, text.length); length > longest; length--) {
      if (text.endsWith(stop.slice(0, length))) longest = length
    }
  }
  return longest
}
