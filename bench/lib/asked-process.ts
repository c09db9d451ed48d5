/** A program of its own that answers messages one at a time: an engine that is measured beside others. */
import { fork } from 'node:child_process'

export interface AskedProcess<Request> {
  /** Rejects when it ends instead of answering. */
  ask(request: Request): Promise<unknown>
  /** Sends the last message and waits for its end. */
  close(last: Request): Promise<void>
}

export function startAsked<Request extends object>(name: string, program: URL): AskedProcess<Request> {
  const child = fork(program, { stdio: 'inherit' })
  return {
    ask: (request) =>
      new Promise((resolve, reject) => {
        const failed = (code: number | null) => reject(new Error(`the process of ${name} ended with ${code}`))
        child.once('exit', failed)
        child.once('message', ({ result }: { result: unknown }) => {
          child.off('exit', failed)
          resolve(result)
        })
        child.send(request)
      }),
    async close(last) {
      const ended = new Promise((resolve) => child.once('exit', resolve))
      child.send(last)
      await ended
    },
  }
}
