/** Timers as a parameter, so that tests can let an hour pass at once. */
export interface Timers {
  /** Calls `run` once after `ms`; the result takes that back. */
  after(ms: number, run: () => void): () => void
}

/** They keep no process alive: a circuit is no reason not to stop. */
export const systemTimers: Timers = {
  after(ms, run) {
    const timer = setTimeout(run, ms)
    timer.unref()
    return () => clearTimeout(timer)
  },
}
