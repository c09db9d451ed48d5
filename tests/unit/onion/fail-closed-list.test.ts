import { existsSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'

/** What must fail closed (docs/protocol.md): for each attack the tests that make it, as file and title. */
const ATTACKS: Readonly<Record<string, readonly (readonly [file: string, title: string])[]>> = {
  'tags of other lengths, every flipped bit': [
    ['crypto.test.ts', 'refuses every flipped bit and every other length of the tag'],
    ['ring-faults.test.ts', 'a bit flipped on any link ends the circuit, and only it'],
    ['handshake.test.ts', 'refuses every flipped bit of CREATE'],
  ],
  'frames replayed, skipped, reordered, reflected, from another circuit': [
    ['fail-closed.test.ts', 'a frame that is %s'],
    ['data.test.ts', 'ends with a flipped bit, a replay, a gap, or the frame of another segment'],
    ['ratchet.test.ts', 'a failure leaves n where it was; replayed, skipped and other directions are failures'],
  ],
  'a key and n twice': [
    ['ratchet.test.ts', 'stay in step over epochs and never use a pair of key and nonce twice'],
    ['ring.test.ts', 'never seals twice under one key and nonce'],
    ['machine.test.ts', 'no nonce twice, no stranger known, nothing left'],
  ],
  'low-order and non-canonical points': [
    ['wycheproof.test.ts', 'X25519'],
    ['handshake.test.ts', 'refuses the point %s in every place'],
  ],
  'swapped Y, forged AUTH, CREATED twice': [
    ['handshake.test.ts', 'refuses every flipped bit of CREATED, a swapped Y and a forged AUTH, and is over then'],
    ['fail-closed.test.ts', 'a second CREATED ends the circuit'],
    ['hop.test.ts', 'CREATED again'],
  ],
  'EXTEND to itself, a 13th, outside EARLY, to another PeerId, to private addresses': [
    ['hop.test.ts', 'to the hop itself, to nobody, and to somebody else than was asked for, fails'],
    ['hop.test.ts', 'the 13th CONTROL_EARLY ends the circuit, whatever is in it'],
    ['hop.test.ts', 'outside CONTROL_EARLY, twice, and while one is under way, ends the circuit'],
    ['hop.test.ts', 'dials no private address for a peer from outside, and no name'],
    ['dial-rules.test.ts', '%s only for a local predecessor in a local network'],
  ],
  'DATA before PIPE_SET': [['hop-data.test.ts', 'before PIPE_SET or RELAY_SET ends the circuit']],
  'every length field, without allocating': [
    ['frames.test.ts', 'on data frames: the classes with up to four relay layers and nothing else'],
    ['frames.test.ts', 'are refused with a wrong length or flags'],
    ['data.test.ts', 'refuses %s before it allocates'],
    ['control.test.ts', 'is refused with a length that does not fit, an unknown op, or when every layer passes on'],
    ['ops.test.ts', 'is refused with a wrong length, count, peer id or address'],
    ['../p2p/framed-stream.test.ts', 'does not allocate what a header promises'],
  ],
  'NaN and infinity': [
    ['ring-faults.test.ts', 'rows that are not finite'],
    ['ring-faults.test.ts', 'infinite rows'],
    ['data.test.ts', 'allFinite sees every kind of broken number'],
  ],
  'every limit': [['limits-covered.test.ts', '%s has a test that goes beyond it']],
  '10,000 connects and disconnects': [
    ['limits.test.ts', 'thousands of connects and disconnects leave no state'],
    ['../../long/hostile-peer.test.ts', 'CONNECTS = 10_000'],
  ],
  'memory below twice what the attacker sent': [['../../integration/hostile-peer.test.ts', 'HEAP_NOISE_BYTES']],
  'no hop knows more than its neighbours': [
    ['ring.test.ts', 'shows no hop any peer but its neighbours, no token, and no key of another'],
    ['machine.test.ts', 'no nonce twice, no stranger known, nothing left'],
  ],
}

test.each(Object.entries(ATTACKS))('%s', (_, tests) => {
  for (const [file, title] of tests) {
    const url = new URL(file, import.meta.url)
    expect(existsSync(url), file).toBe(true)
    expect(readFileSync(url, 'utf8'), file).toContain(title)
  }
})
