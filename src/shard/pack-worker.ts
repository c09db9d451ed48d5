import { parentPort } from 'node:worker_threads'
import { toStorageError } from './disk-error.ts'
import { type PackJob, runPackJob } from './pack-job.ts'

parentPort?.on('message', (job: PackJob) => {
  try {
    parentPort?.postMessage({ result: runPackJob(job) })
  } catch (error) {
    // An error's class and fields do not survive the way between threads.
    const { code, message, hint, meta } = toStorageError(error)
    parentPort?.postMessage({ error: { code, message, hint, meta } })
  }
})
