/** Hops of a bench model in processes of their own. */
import { type ChildProcess, fork } from 'node:child_process'
import type { HopTarget } from '../../src/onion/ring.ts'
import type { PackedHopAnswer, PackedHopOrder } from './packed-hop.process.ts'

export interface PackedHop {
  readonly target: HopTarget
  stop(): Promise<void>
  /** As a machine that loses its power. */
  kill(): Promise<void>
}

export async function startPackedHop(order: PackedHopOrder): Promise<PackedHop> {
  const child: ChildProcess = fork(new URL('packed-hop.process.ts', import.meta.url), { stdio: 'inherit' })
  const answer = await new Promise<PackedHopAnswer>((resolve, reject) => {
    child.once('message', (message) => resolve(message as PackedHopAnswer))
    child.once('exit', (code) => reject(new Error(`a hop ended with ${code}`)))
    child.send(order)
  })
  const ended = new Promise((resolve) => child.once('exit', resolve))
  return {
    target: {
      role: 'compute',
      span: order.span,
      addressKey: Uint8Array.from(answer.addressKey),
      onionKey: Uint8Array.from(answer.onionKey),
      peerId: answer.peerId,
      addrs: [...answer.addrs],
    },
    async stop() {
      if (child.connected) child.disconnect()
      await ended
    },
    async kill() {
      child.kill('SIGKILL')
      await ended
    },
  }
}
