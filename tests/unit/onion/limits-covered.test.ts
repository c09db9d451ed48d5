import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { onionLimits } from '../../../src/base/limits.ts'

/**
 * The test that goes one past each limit of circuits: its file and title. A limit that is added without one fails here; so
 * does a title that is no longer there.
 */
const TESTS: Readonly<Record<keyof typeof onionLimits, readonly [file: string, title: string]>> = {
  hops: ['ring.test', 'is refused for a route that cannot be one'],
  computeHops: ['ring.test', 'is refused for a route that cannot be one'],
  relayHops: ['ring.test', 'is refused for a route that cannot be one'],
  earlyFrames: ['hop.test', 'the 13th CONTROL_EARLY ends the circuit, whatever is in it'],
  halfOpen: ['limits.test', '64 half-open ones; those that are set up do not count'],
  halfOpenMs: ['hop.test', 'ends after 10 s without a control frame'],
  idleS: ['limits.test', '10 minutes without a frame'],
  lifeS: ['limits.test', '60 minutes in all, or what was asked for'],
  lifeBytes: ['limits.test', 'bytes of a life'],
  queueBytes: ['limits.test', 'behind a link that does not drain: up to the grant, then the circuit ends'],
  frameSpareBytes: ['limits-more.test', 'a PIPE_SET for one row more than the grant has room for is refused'],
  maxRows: ['limits-more.test', 'a PIPE_SET for 513 rows ends the circuit'],
  queuePeerBytes: ['limits.test', 'of one stranger'],
  queueTotalBytes: [
    'limits.test',
    'in all circuits: the one with the oldest byte is dropped, also when it takes a little now and then',
  ],
  relayBytesPerS: ['limits.test', 'a relay lets a burst through and then its rate, and loses nothing'],
  relayBurstBytes: ['limits.test', 'a relay lets a burst through and then its rate, and loses nothing'],
  relayTotal: [
    'limits.test',
    'all relayed circuits share a rate: peers take turns, however many circuits one of them has',
  ],
  relayPeerCircuits: ['limits.test', '16 relay circuits of one stranger'],
  relayCircuits: ['limits.test', '256 relay circuits in all'],
  createPerPeer: ['limits.test', 'one stranger: 8 at once, then one per second; the others are not affected'],
  createPerSubnet: ['limits.test', 'one subnet: 30 at once'],
  createTotal: [
    'limits.test',
    'all strangers: 40 at once, 40 more are told BUSY, the rest is closed; trusted ones still get in',
  ],
  trustedFactor: ['limits.test', 'local peers have 20 times as much'],
  fouls: ['fouls.test', 'a stranger may break a rule 32 times; with the next it is sent away'],
  foulMs: ['fouls.test', 'and is heard again after a minute'],
  pings: ['fouls.test', 'a circuit with a 65th PING at once has ended'],
  rememberedPeers: ['limits-more.test', 'a peer more than are remembered: the one that was away longest is forgotten'],
  holdMs: ['hop.test', '%s: TRUNCATED, and the state is kept for 15 s'],
  mendMs: ['ring-mend.test', 'is gone after 10 s, or when it is closed'],
  readyRings: [
    'ready-rings.test',
    'at most four wait: the oldest makes room, the same one twice is built once, and a failure is silent',
  ],
  readyMs: ['ready-rings.test', 'goes after 5 minutes, with a hop of it, and with the node'],
  connectMs: ['limits-more.test', 'connectMs: a first hop that is not reached'],
  createMs: ['limits-more.test', 'createMs: a first hop that does not answer the CREATE'],
  extendMs: ['limits-more.test', 'extendMs: a hop that does not answer the EXTEND'],
  opMs: ['limits-more.test', 'opMs: a hop that does not answer the PIPE_SET'],
  prefillMs: ['ring-faults.test', 'has 30 s for a prefill frame'],
  stepMs: ['ring-faults.test', 'is waited for as long as it answers PINGs, until the deadline of the step'],
  silenceMs: ['ring-faults.test', 'hop %i, cut off without a word: found by PINGs'],
  pingMs: ['ring-faults.test', 'hop %i, cut off without a word: found by PINGs'],
  truncatedWaitMs: ['limits-more.test', 'truncatedWaitMs: a return stream that ends, and no TRUNCATED'],
  cadenceTailMs: ['cadence.test', 'goes on for 5 s after the last token, and no further'],
  paddingUnderWay: ['cadence.test', 'sends no more padding than 16 frames ahead of what comes back'],
  extendDials: ['hop.test', 'dials no private address for a peer from outside, and no name'],
  extendAddrs: ['ops.test', 'is refused with a wrong length, count, peer id or address'],
  extendAddrBytes: ['ops.test', 'is refused with a wrong length, count, peer id or address'],
  answerRequestBytes: ['answer.test', 'ends with a request of one byte more than is taken'],
  answerBytes: ['answer.test', 'ends an answer that becomes longer than 4 MiB'],
  answerWindowBytes: ['answer.test', 'sends no more than the window ahead of a caller who does not read'],
  answerFrameBytes: ['answer.test', 'sends no more than the window ahead of a caller who does not read'],
  answerAckBytes: ['answer.test', 'ends an answer that becomes longer than 4 MiB'],
  answerSilenceMs: ['answer.test', 'asks in silence whether the node is still there'],
  openRings: ['ring-faults.test', 'holds no more rings open than the limit'],
}

test.each(Object.keys(onionLimits))('%s has a test that goes beyond it', (name) => {
  const entry = TESTS[name as keyof typeof onionLimits]
  expect(entry, 'add a test one past the limit, and name it here').toBeDefined()
  const [file, title] = entry
  expect(readFileSync(new URL(`${file}.ts`, import.meta.url), 'utf8')).toContain(`'${title}'`)
})
