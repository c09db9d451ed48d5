import type { Clock } from '../base/clock.ts'
import { LlmNodeError, toLlmNodeError } from '../base/errors.ts'
import { shardLimits } from '../base/limits.ts'
import { createPace, type Pace, type Paced } from './pace.ts'

/** Rows of one session in one run: positions [pos, pos + nTokens), hidden [nTokens, hiddenSize] f32. */
export interface Work<Session> {
  readonly session: Session
  readonly pos: number
  readonly nTokens: number
  readonly hidden: Float32Array
}

/** What the scheduler needs of a session. `length` is written here only. */
export interface Schedulable extends Paced {
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

/** Rows of a waiting session's first call, as many as one run takes. */
interface Turn<Session> {
  readonly work: Work<Session>
  readonly job: Job
}

export interface SchedulerOptions<Session extends Schedulable> {
  readonly hiddenSize: number
  readonly clock: Clock
  /** Sessions of one run at most. */
  readonly slots: number
  /** The two can share a run. */
  readonly canShare: (a: Session, b: Session) => boolean
  /** Rows of one run at most, for rows of this session that begin at `pos`. */
  readonly maxRows: (session: Session, pos: number) => number
  /** Makes room for the rows; a failure is this session's alone. */
  readonly reserve: (work: Work<Session>) => Promise<void>
  /** Executes one run: the rows of every entry, [nTokens, hiddenSize] f32 each. At most one call at a time. */
  readonly run: (batch: readonly Work<Session>[]) => Promise<readonly Float32Array[]>
}

/**
 * One run at a time, of as many sessions as have rows waiting and fit: decode steps first, and with them at most one
 * chunk of a longer call of at most `maxRows` rows, so that a long prompt delays the others by one such chunk. The one
 * that has waited longest is always among them. Calls of one session are served in their order.
 */
export function createScheduler<Session extends Schedulable>(options: SchedulerOptions<Session>): Scheduler<Session> {
  return new FairScheduler(options)
}

class FairScheduler<Session extends Schedulable> implements Scheduler<Session> {
  readonly #options: SchedulerOptions<Session>
  /** In the order of turns: a session that had its turn goes to the end. */
  readonly #waiting = new Map<Session, Job[]>()
  readonly #pace: Pace<Session>
  #running: Promise<void> | null = null
  #current: ReadonlySet<Session> = new Set()

  constructor(options: SchedulerOptions<Session>) {
    this.#options = options
    this.#pace = createPace(options.clock)
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
      this.#pace.came(session)
      this.#pump()
    })
  }

  drop(session: Session): void {
    for (const job of this.#waiting.get(session) ?? []) {
      job.settle(new LlmNodeError('ABORTED', 'The session was closed.'))
    }
    this.#waiting.delete(session)
    this.#pace.forget(session)
    // The run in progress writes into the session's memory.
    if (!this.#current.has(session)) session.release()
  }

  async idle(): Promise<void> {
    while (this.#running !== null) await this.#running
  }

  #pump(): void {
    if (this.#running !== null) return
    const waiting = this.#waitingTurns()
    const limit = Math.min(this.#options.slots, this.#pace.share(waiting.map(({ work }) => work.session)))
    const turns = this.#next(waiting, limit)
    if (turns.length === 0) return
    if (turns.length < limit && this.#pace.expected(() => this.#pump())) return
    const sessions = turns.map(({ work }) => work.session)
    this.#current = new Set(sessions)
    const startMs = this.#options.clock.monotonicMs()
    this.#running = this.#step(turns).finally(() => {
      this.#running = null
      this.#current = new Set()
      const isDone = (session: Session) => this.#waiting.get(session)?.every((job) => job.settled) ?? true
      const ms = this.#options.clock.monotonicMs() - startMs
      this.#pace.ran(sessions.filter(isDone), turns.some(isChunk) ? undefined : ms)
      for (const session of sessions) {
        if (session.closed) session.release()
        else this.#toTheEnd(session)
      }
      this.#pump()
    })
  }

  /** What could run, the one that has waited longest first. */
  #waitingTurns(): Turn<Session>[] {
    const waiting: Turn<Session>[] = []
    for (const [session, jobs] of [...this.#waiting]) {
      const job = this.#first(session, jobs)
      if (job === undefined) this.#waiting.delete(session)
      else waiting.push(this.#turn(session, job))
    }
    return waiting
  }

  /** Whose turn it is: at most `limit` decode steps, and a chunk where a slot is left. */
  #next(waiting: readonly Turn<Session>[], limit: number): Turn<Session>[] {
    const { slots, canShare } = this.#options
    const [oldest] = waiting
    if (oldest === undefined) return []
    const others = waiting.filter((turn) => turn !== oldest && canShare(oldest.work.session, turn.work.session))
    const steps = others.filter((turn) => !isChunk(turn))
    if (isChunk(oldest)) return [oldest, ...steps].slice(0, Math.max(limit, 1))
    const chunks = others.filter(isChunk).slice(0, 1)
    return [...[oldest, ...steps].slice(0, Math.max(limit, 1)), ...chunks].slice(0, slots)
  }

  #turn(session: Session, job: Job): Turn<Session> {
    const { hiddenSize, maxRows } = this.#options
    const pos = job.pos + job.done
    const rest = job.hidden.length / hiddenSize - job.done
    const nTokens = Math.min(maxRows(session, pos), rest)
    const hidden = job.hidden.subarray(job.done * hiddenSize, (job.done + nTokens) * hiddenSize)
    return { work: { session, pos, nTokens, hidden }, job }
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

  async #step(turns: readonly Turn<Session>[]): Promise<void> {
    const ready: Turn<Session>[] = []
    for (const turn of turns) {
      const { session } = turn.work
      // From here on the positions from `pos` on are overwritten; they count again when the last run has succeeded.
      session.length = Math.min(session.length, turn.job.pos)
      try {
        await this.#options.reserve(turn.work)
        ready.push(turn)
      } catch (error) {
        turn.job.settle(toLlmNodeError(error, 'ENGINE_FAILED'))
      }
    }
    if (ready.length === 0) return
    try {
      const results = await this.#options.run(ready.map(({ work }) => work))
      for (const [i, turn] of ready.entries()) this.#finish(turn, results[i] ?? new Float32Array())
    } catch (error) {
      for (const { job } of ready) job.settle(toLlmNodeError(error, 'ENGINE_FAILED'))
    }
  }

  #finish({ work, job }: Turn<Session>, rows: Float32Array): void {
    job.output.set(rows, job.done * this.#options.hiddenSize)
    job.done += work.nTokens
    if (job.settled || job.done * this.#options.hiddenSize < job.hidden.length) return
    work.session.length = job.pos + job.done
    job.settle()
  }
}

/** More rows than a token and the draft after it. */
function isChunk({ work }: { readonly work: { readonly nTokens: number } }): boolean {
  return work.nTokens > shardLimits.stepRows
}
