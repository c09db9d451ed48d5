import { Worker } from 'node:worker_threads'
import { type ErrorCode, type ErrorMeta, LlmNodeError } from '../base/errors.ts'
import type { PackJob, PackResult } from './pack-job.ts'

/** Packs in a thread of its own, so that a node that serves peers keeps answering. One job at a time. */
export interface Packer {
  /** Throws what runPackJob throws. Not to be called again before it has settled. */
  pack(job: PackJob): Promise<PackResult>
  /** Ends the thread, and with it the job in progress, which then rejects with ABORTED. Idempotent. */
  close(): Promise<void>
}

type Answer =
  | { readonly result: PackResult; readonly error?: never }
  | { readonly result?: never; readonly error: { code: ErrorCode; message: string; hint?: string; meta: ErrorMeta } }

export function createPacker(): Packer {
  let worker: Worker | null = null
  let closed = false
  return {
    pack(job) {
      if (closed) return Promise.reject(new LlmNodeError('ABORTED', 'Stopped on request.'))
      const thread = worker ?? startWorker()
      worker = thread
      return new Promise((resolve, reject) => {
        const settle = (act: () => void) => {
          thread.off('message', answered)
          thread.off('error', failed)
          thread.off('exit', exited)
          act()
        }
        const answered = ({ result, error }: Answer) =>
          settle(() =>
            result ? resolve(result) : reject(new LlmNodeError(error.code, error.message, detailsOf(error))),
          )
        const failed = (cause: Error) =>
          settle(() => reject(new LlmNodeError('INTERNAL', `The packing thread failed: ${cause.message}`, { cause })))
        const exited = () => settle(() => reject(new LlmNodeError('ABORTED', 'Stopped on request.')))
        thread.on('message', answered)
        thread.on('error', failed)
        thread.on('exit', exited)
        thread.postMessage(job)
      })
    },
    async close() {
      closed = true
      await worker?.terminate()
    },
  }
}

function detailsOf({ hint, meta }: { hint?: string; meta: ErrorMeta }) {
  return hint === undefined ? { meta } : { hint, meta }
}

/** Beside this file: `.ts` when Node runs the sources, `.js` in the published build. */
function startWorker(): Worker {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
  return new Worker(new URL(`./pack-worker.${extension}`, import.meta.url))
}
