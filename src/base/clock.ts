/** Time as a parameter, so that tests and the simulator can bring their own. */
export interface Clock {
  /** Wall clock, Unix ms: only for what other machines see. */
  nowMs(): number
  /** Monotonic ms: for durations and deadlines. */
  monotonicMs(): number
}

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
}
