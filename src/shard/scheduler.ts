import { LlmNodeError, toLlmNodeError } from '../base/errors.ts'
import { shardLimits } from '../base/limits.ts'

/** Rows of one session in one run: positions [pos, pos + nTokens), hidden [nTokens, hiddenSize] f32. */
export interface Work<Session> {
  readonly session: Session
  readonly pos: number
  readonly nTokens: number
  readonly hidden: Float32Array
}

/** What the scheduler needs of a session. `length` is written here only. */
export interface Schedulable {
  length: number
  readonly closed: boolean
  /** Frees the KV. Called once, between runs, after the session was closed. */
  release(): void
}

export interface Scheduler<Session extends Schedulable> {
  forward(session: Session, pos: number, hidden: Float32Array, signal?: AbortSignal): Promise<Float32Array>
  /** Drops what waits, and releases the session after the run that holds its rows. */
  drop(session: Session): void
  /** Resolves when no run is in progress. */
  idle(): Promise<void>
}

interface Job {
  readonly pos: number
  readonly hidden: Float32Array
  readonly output: Float32Array
  /** Rows computed so far. */
  done: number
  settled: boolean
  readonly settle: (error?: LlmNodeError) => void
}

/**
 * One run at a time. Sessions with waiting rows take turns; each turn takes at most `maxRows` rows, so a long prompt
 * delays the others by one such run. Calls of one session are served in their order.
 */
export function createScheduler<Session extends Schedulable>(options: {
  hiddenSize: number
  maxRows: number
  /** Executes one run: the rows of every entry, [nTokens, hiddenSize] f32 each. At most one call at a time. */
  run: (batch: readonly Work<Session>[]) => Promise<readonly Float32Array[]>
}): Scheduler<Session> {
  const { hiddenSize, maxRows } = options
  const waiting = new Map<Session, Job[]>()
  let running: Promise<void> | null = null
  let current: Session | null = null

  const next = (): Work<Session> | null => {
    for (const [session, jobs] of waiting) {
      while (jobs[0]?.settled) jobs.shift()
      const job = jobs[0]
      if (job === undefined) {
        waiting.delete(session)
        continue
      }
      const pos = job.pos + job.done
      if (job.done === 0 && pos > session.length) {
        const message = `Rows begin at position ${pos}, but only ${session.length} are known.`
        job.settle(new LlmNodeError('BAD_INPUT', message, { meta: { pos, length: session.length } }))
        return next()
      }
      const nTokens = Math.min(maxRows, job.hidden.length / hiddenSize - job.done)
      const hidden = job.hidden.subarray(job.done * hiddenSize, (job.done + nTokens) * hiddenSize)
      return { session, pos, nTokens, hidden }
    }
    return null
  }

  const step = async (work: Work<Session>): Promise<void> => {
    const { session } = work
    const jobs = waiting.get(session) ?? []
    const job = jobs[0]
    if (job === undefined) return
    // From here on the positions from `pos` on are overwritten; they count again when the last run has succeeded.
    session.length = Math.min(session.length, job.pos)
    try {
      const [rows = new Float32Array()] = await options.run([work])
      job.output.set(rows, job.done * hiddenSize)
      job.done += work.nTokens
      if (job.done * hiddenSize === job.hidden.length && !job.settled) {
        session.length = job.pos + job.done
        job.settle()
      }
    } catch (error) {
      job.settle(toLlmNodeError(error, 'ENGINE_FAILED'))
    }
    // To the end of the line: the others come first now.
    waiting.delete(session)
    if (!session.closed) waiting.set(session, jobs)
  }

  const pump = (): void => {
    if (running !== null) return
    const work = next()
    if (work === null) return
    current = work.session
    running = step(work).finally(() => {
      running = null
      current = null
      if (work.session.closed) work.session.release()
      pump()
    })
  }

  const enqueue = (session: Session, job: Job): void => {
    const jobs = waiting.get(session) ?? []
    jobs.push(job)
    waiting.set(session, jobs)
    pump()
  }

  return {
    forward(session, pos, hidden, signal) {
      return new Promise<Float32Array>((resolve, reject) => {
        if ((waiting.get(session)?.length ?? 0) >= shardLimits.waitingForwards) {
          throw new LlmNodeError('LIMIT', `${shardLimits.waitingForwards} calls of this session are waiting already.`)
        }
        const stop = () => job.settle(new LlmNodeError('ABORTED', 'Stopped on request.'))
        const job: Job = {
          pos,
          hidden,
          output: new Float32Array(hidden.length),
          done: 0,
          settled: false,
          settle(error) {
            if (job.settled) return
            job.settled = true
            signal?.removeEventListener('abort', stop)
            if (error === undefined) resolve(job.output)
            else reject(error)
          },
        }
        if (signal?.aborted) return stop()
        signal?.addEventListener('abort', stop)
        enqueue(session, job)
      })
    },
    drop(session) {
      for (const job of waiting.get(session) ?? []) {
        job.settle(new LlmNodeError('ABORTED', 'The session was closed.'))
      }
      if (session === current) return
      waiting.delete(session)
      session.release()
    },
    async idle() {
      while (running !== null) await running
    },
  }
}
