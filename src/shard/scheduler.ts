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

export interface SchedulerOptions<Session extends Schedulable> {
  readonly hiddenSize: number
  /** Rows of one run at most, for rows of this session that begin at `pos`. */
  readonly maxRows: (session: Session, pos: number) => number
  /** Executes one run: the rows of every entry, [nTokens, hiddenSize] f32 each. At most one call at a time. */
  readonly run: (batch: readonly Work<Session>[]) => Promise<readonly Float32Array[]>
}

/**
 * One run at a time. Sessions with waiting rows take turns; each turn takes at most `maxRows` rows, so a long prompt
 * delays the others by one such run. Calls of one session are served in their order.
 */
export function createScheduler<Session extends Schedulable>(options: SchedulerOptions<Session>): Scheduler<Session> {
  return new FairScheduler(options)
}

class FairScheduler<Session extends Schedulable> implements Scheduler<Session> {
  readonly #options: SchedulerOptions<Session>
  /** In the order of turns: a session that had its turn goes to the end. */
  readonly #waiting = new Map<Session, Job[]>()
  #running: Promise<void> | null = null
  #current: Session | null = null

  constructor(options: SchedulerOptions<Session>) {
    this.#options = options
  }

  forward(session: Session, pos: number, hidden: Float32Array, signal?: AbortSignal): Promise<Float32Array> {
    return new Promise<Float32Array>((resolve, reject) => {
      const jobs = this.#waiting.get(session) ?? []
      if (jobs.length >= shardLimits.waitingForwards) {
        throw new LlmNodeError('LIMIT', `${shardLimits.waitingForwards} calls of this session are waiting already.`)
      }
      const stop = () => job.settle(new LlmNodeError('ABORTED', 'Stopped on request.'))
      const output = new Float32Array(hidden.length)
      const job: Job = {
        pos,
        hidden,
        output,
        done: 0,
        settled: false,
        settle(error) {
          if (job.settled) return
          job.settled = true
          signal?.removeEventListener('abort', stop)
          if (error === undefined) resolve(output)
          else reject(error)
        },
      }
      if (signal?.aborted) return stop()
      signal?.addEventListener('abort', stop)
      jobs.push(job)
      this.#waiting.set(session, jobs)
      this.#pump()
    })
  }

  drop(session: Session): void {
    for (const job of this.#waiting.get(session) ?? []) {
      job.settle(new LlmNodeError('ABORTED', 'The session was closed.'))
    }
    this.#waiting.delete(session)
    // The run in progress writes into the session's memory.
    if (session !== this.#current) session.release()
  }

  async idle(): Promise<void> {
    while (this.#running !== null) await this.#running
  }

  #pump(): void {
    if (this.#running !== null) return
    const next = this.#next()
    if (next === null) return
    const { work, job } = next
    this.#current = work.session
    this.#running = this.#step(work, job).finally(() => {
      this.#running = null
      this.#current = null
      if (work.session.closed) work.session.release()
      else this.#toTheEnd(work.session)
      this.#pump()
    })
  }

  /** The rows whose turn it is. */
  #next(): { work: Work<Session>; job: Job } | null {
    for (const [session, jobs] of this.#waiting) {
      const job = this.#first(session, jobs)
      if (job === undefined) {
        this.#waiting.delete(session)
        continue
      }
      const { hiddenSize } = this.#options
      const pos = job.pos + job.done
      const rest = job.hidden.length / hiddenSize - job.done
      const nTokens = Math.min(this.#options.maxRows(session, pos), rest)
      const hidden = job.hidden.subarray(job.done * hiddenSize, (job.done + nTokens) * hiddenSize)
      return { work: { session, pos, nTokens, hidden }, job }
    }
    return null
  }

  /** Behind those that came while it ran. */
  #toTheEnd(session: Session): void {
    const jobs = this.#waiting.get(session)
    if (jobs === undefined) return
    this.#waiting.delete(session)
    this.#waiting.set(session, jobs)
  }

  /** The first call that can run; what is over or cannot run is taken out. */
  #first(session: Session, jobs: Job[]): Job | undefined {
    for (let job = jobs[0]; job !== undefined; job = jobs[0]) {
      if (!job.settled && (job.done > 0 || job.pos <= session.length)) return job
      jobs.shift()
      if (job.settled) continue
      const message = `Rows begin at position ${job.pos}, but only ${session.length} are known.`
      job.settle(new LlmNodeError('BAD_INPUT', message, { meta: { pos: job.pos, length: session.length } }))
    }
    return undefined
  }

  async #step(work: Work<Session>, job: Job): Promise<void> {
    const { session, nTokens } = work
    // From here on the positions from `pos` on are overwritten; they count again when the last run has succeeded.
    session.length = Math.min(session.length, job.pos)
    try {
      const [rows = new Float32Array()] = await this.#options.run([work])
      job.output.set(rows, job.done * this.#options.hiddenSize)
      job.done += nTokens
      if (job.settled || job.done * this.#options.hiddenSize < job.hidden.length) return
      session.length = job.pos + job.done
      job.settle()
    } catch (error) {
      job.settle(toLlmNodeError(error, 'ENGINE_FAILED'))
    }
  }
}
