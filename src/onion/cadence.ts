import type { Timers } from '../base/timers.ts'

/** A steady beat while an answer comes, and for a while after, so that its end does not show to the millisecond. */
export interface Cadence {
  /** Something real has been sent or is to be: the beat goes on from here for its time. */
  keepUp(): void
  stop(): void
}

export function createCadence(
  { timers, beatMs, beats }: { timers: Timers; beatMs: number; beats: number },
  onBeat: () => void,
): Cadence {
  let left = 0
  let cancel: (() => void) | undefined
  const arm = () => {
    cancel = timers.after(beatMs, () => {
      cancel = undefined
      if (left-- <= 0) return
      arm()
      onBeat()
    })
  }
  return {
    keepUp() {
      left = beats
      if (cancel === undefined) arm()
    },
    stop() {
      left = 0
      cancel?.()
      cancel = undefined
    },
  }
}
