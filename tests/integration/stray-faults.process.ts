/** Errors that nobody catches: one of a listener, one of a promise; with "flood" more than a node may outlive. */
import { createLogger } from '../../src/base/logger.ts'
import { surviveStrayFaults } from '../../src/node/stray-faults.ts'

surviveStrayFaults(createLogger({ level: 'error' }))
const target = new EventTarget()
target.addEventListener('fault', () => {
  throw new Error('a listener')
})
const count = process.argv[2] === 'flood' ? 20 : 1
for (let i = 0; i < count; i++) {
  target.dispatchEvent(new Event('fault'))
  void Promise.reject(new Error('a promise'))
}
setTimeout(() => process.stdout.write('still here\n'), 200)
