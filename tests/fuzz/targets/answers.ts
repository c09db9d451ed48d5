import { concatBytes, utf8 } from '../../../src/base/bytes.ts'
import { callerOf, readAnswerRequest, signAnswerRequest, writeAnswerLine } from '../../../src/node/answer-messages.ts'
import { errorCodeOf } from '../../../src/onion/hop-answer.ts'
import { type FuzzTarget, promise, unlessRefused } from '../target.ts'

const EXPORTER = new Uint8Array(32).fill(7)

/** Input: what a stranger asks over an answer circuit, JSON in UTF-8. */
export const answerTarget: FuzzTarget = {
  name: 'answer',
  maxBytes: 4_096,
  maxAllocated: (length) => 262_144 + 512 * length,
  seeds: () => {
    const by = { network: 'fuzz', addressKey: new Uint8Array(32).fill(1), sign: () => new Uint8Array(64).fill(2) }
    const auth = signAnswerRequest(EXPORTER, by)
    const messages = [
      { role: 'system', content: 'be brief' },
      { role: 'user', content: 'hello' },
    ]
    const all = { maxTokens: 5, temperature: 0.5, topK: 3, topP: 0.9, minP: 0.1, seed: 7, stop: ['x'] }
    return [{ prompt: 'hello' }, { messages, model: 'm' }, { prompt: 'a', ...all }, { prompt: 'a', auth }].map(
      (request) => utf8(JSON.stringify(request)),
    )
  },
  run(input) {
    const request = unlessRefused(['BAD_INPUT'], () => readAnswerRequest(input))
    if (request !== undefined) {
      const again = readAnswerRequest(utf8(JSON.stringify(request)))
      promise(JSON.stringify(again) === JSON.stringify(request), 'a request survives writing and reading')
      const network = { exporter: EXPORTER, network: 'fuzz' }
      const caller = unlessRefused(['AUTH_FAILED', 'BAD_ADDRESS'], () => callerOf(request, network))
      promise(caller === undefined, 'nobody is a caller without a signature')
    }
    const line = writeAnswerLine({ delta: Buffer.from(input).toString('utf8') })
    promise(line.indexOf(10) === line.length - 1, 'a line is one line')
    promise(/^[A-Z][A-Z0-9_]*$/.test(errorCodeOf(input)), 'a refusal shows a code only')
    promise(errorCodeOf(concatBytes(input, Uint8Array.of(27))) === 'INTERNAL', 'no refusal can rewrite a terminal')
  },
}
