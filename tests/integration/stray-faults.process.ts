/**
 * Errors that nobody catches: one of a listener, one of a promise; with "flood" more than a node may outlive, with "ended"
 * as many of libp2p's about connections that have ended.
 */
import { StreamStateError } from '@libp2p/interface'
import { createLogger } from '../../src/base/logger.ts'
import { surviveStrayFaults } from '../../src/node/stray-faults.ts'

surviveStrayFaults(createLogger({ level: 'error' }))
const target = new EventTarget()
target.addEventListener('fault', () => {
  throw new Error('a listener')
})
if (process.argv[2] === 'ended') {
  for (let i = 0; i < 40; i++) {
    queueMicrotask(() => {
      throw new StreamStateError('Cannot write to a stream that is closed')
    })
  }
}
const counts: Record<string, number> = { flood: 20, ended: 0 }
const count = counts[process.argv[2] ?? ''] ?? 1
for (let i = 0; i < count; i++) {
  target.dispatchEvent(new Event('fault'))
  void Promise.reject(new Error('a promise'))
}
setTimeout(() => process.stdout.write('still here\n'), 200)
