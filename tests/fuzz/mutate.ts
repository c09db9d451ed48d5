/** Fewer, changed and joined inputs out of good ones. All choices come from `random`, so a seed repeats a run. */
export interface Mutator {
  mutate(input: Uint8Array, other: Uint8Array): Uint8Array
}

const LENGTHS = [0, 1, 2, 3, 16, 31, 32, 33, 127, 128, 255]
const NUMBERS = [
  0, 1, 2, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0xffff, 0x1_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff,
]

export function createMutator(random: () => number, maxBytes: number, words: readonly Uint8Array[]): Mutator {
  const below = (n: number) => (n <= 0 ? 0 : random() % n)
  const pick = <T>(from: readonly T[]): T | undefined => from[below(from.length)]

  const set = (bytes: Uint8Array, at: number, value: number, width: number, little: boolean) => {
    for (let i = 0; i < width && at + i < bytes.length; i++) {
      const shift = 8 * (little ? i : width - 1 - i)
      bytes[at + i] = Math.floor(value / 2 ** shift) % 256
    }
  }
  const splice = (bytes: Uint8Array, at: number, drop: number, put: Uint8Array) =>
    Uint8Array.from(Buffer.concat([bytes.subarray(0, at), put, bytes.subarray(at + drop)]))

  const steps: readonly ((bytes: Uint8Array, other: Uint8Array) => Uint8Array)[] = [
    (bytes) => {
      const at = below(bytes.length)
      bytes[at] = (bytes[at] ?? 0) ^ (1 << below(8))
      return bytes
    },
    (bytes) => {
      bytes[below(bytes.length)] = below(256)
      return bytes
    },
    (bytes) => {
      const at = below(bytes.length)
      bytes[at] = (bytes[at] ?? 0) + below(35) - 17
      return bytes
    },
    (bytes) => {
      const width = pick([1, 2, 4, 8]) ?? 1
      const value = below(4) === 0 ? bytes.length + below(3) - 1 : (pick(NUMBERS) ?? 0)
      set(bytes, below(bytes.length), Math.max(0, value), width, below(2) === 0)
      return bytes
    },
    (bytes) => splice(bytes, below(bytes.length), 1 + below(pick(LENGTHS) ?? 1), new Uint8Array(0)),
    (bytes) => {
      const put = new Uint8Array(1 + below(pick(LENGTHS) ?? 1)).fill(below(256))
      return splice(bytes, below(bytes.length + 1), 0, put)
    },
    (bytes) => {
      const from = below(bytes.length)
      const piece = bytes.slice(from, from + 1 + below(64))
      return splice(bytes, below(bytes.length + 1), below(2) === 0 ? piece.length : 0, piece)
    },
    (bytes, other) => {
      const from = below(other.length)
      const piece = other.slice(from, from + 1 + below(other.length - from))
      return splice(bytes, below(bytes.length + 1), below(2) === 0 ? piece.length : 0, piece)
    },
    (bytes) => bytes.slice(0, below(bytes.length + 1)),
    (bytes) => {
      const word = pick(words) ?? new Uint8Array(1)
      return splice(bytes, below(bytes.length + 1), below(2) === 0 ? word.length : 0, word)
    },
  ]
  return {
    mutate(input, other) {
      let bytes: Uint8Array = Uint8Array.from(input)
      for (let left = 1 + below(below(4) === 0 ? 12 : 3); left > 0; left--) {
        bytes = pick(steps)?.(bytes.length === 0 ? new Uint8Array(1) : bytes, other) ?? bytes
      }
      return bytes.length > maxBytes ? bytes.slice(0, maxBytes) : bytes
    },
  }
}
