import { concatBytes } from '../../../src/base/bytes.ts'
import { decodeAnswer, decodeRequest, encodeAnswer, encodeRequest } from '../../../src/coverage/gossip-messages.ts'
import { type FuzzTarget, promise, sameBytes, unlessRefused } from '../target.ts'

const TAG = Uint8Array.of(8, 7, 6, 5, 4, 3, 2, 1)

/** Input: 0 request, 1 request behind the right tag, 2 answer; then the message. */
export const gossipTarget: FuzzTarget = {
  name: 'gossip',
  maxBytes: 4_096,
  // A list may be promised that is not there: an array of at most 1,000 places before the first entry is missed.
  maxAllocated: (length) => 65_536 + 512 * length,
  seeds: () => {
    const items = (['advert', 'heartbeat', 'tombstone', 'contact'] as const).map((kind, i) => ({
      kind,
      ageMs: i * 1_000,
      bytes: new Uint8Array(20 * i).fill(i),
    }))
    const lines = [
      { advertId: '0102030405060708', index: 3 },
      { advertId: 'ffffffffffffffff', index: 64 },
    ]
    const reach = {
      position: 7,
      radii: new Map([
        [3, 99],
        [4, 2 ** 32 - 1],
      ]),
    }
    return [
      concatBytes(Uint8Array.of(1), encodeRequest(new Uint8Array(0), { op: 'news', wish: true, items, lines })),
      concatBytes(Uint8Array.of(1), encodeRequest(new Uint8Array(0), { op: 'digest', wish: false, reach, lines })),
      concatBytes(Uint8Array.of(0), encodeRequest(TAG, { op: 'digest', wish: true, reach, lines: [] })),
      concatBytes(Uint8Array.of(2), encodeAnswer({ wish: true, reach, items, wants: ['0102030405060708'], lacks: [] })),
    ]
  },
  run(input) {
    const kind = (input[0] ?? 0) % 3
    const bytes = kind === 1 ? concatBytes(TAG, input.subarray(1)) : input.subarray(1)
    if (kind < 2) {
      const request = unlessRefused(['BAD_RECORD', 'PEER_REFUSED'], () => decodeRequest(bytes, TAG))
      promise(request === undefined || sameBytes(encodeRequest(TAG, request), bytes), 'a request has one encoding')
    } else {
      const answer = unlessRefused(['BAD_RECORD'], () => decodeAnswer(bytes))
      promise(answer === undefined || sameBytes(encodeAnswer(answer), bytes), 'an answer has one encoding')
    }
  },
}
