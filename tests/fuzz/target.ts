import { type ErrorCode, isLlmNodeError } from '../../src/base/errors.ts'

/** One parser under attack. `run` throws when the parser breaks a promise; refusing the input is none. */
export interface FuzzTarget {
  readonly name: string
  /** No input is longer: beyond the largest thing that the parser is ever given. */
  readonly maxBytes: number
  /** Bytes that one run may allocate at `length` bytes of input. Default: 64 KiB + 64 × length. */
  readonly maxAllocated?: (length: number) => number
  seeds(): Uint8Array[]
  run(input: Uint8Array): void
}

/** A parser did something that it must not. */
export class BrokenPromise extends Error {
  override readonly name = 'BrokenPromise'
}

export function promise(holds: boolean, what: string): asserts holds {
  if (!holds) throw new BrokenPromise(what)
}

/** What `parse` returns, or undefined when it refused with one of `codes`. Anything else that it throws goes on. */
export function unlessRefused<T>(codes: readonly ErrorCode[], parse: () => T): T | undefined {
  try {
    return parse()
  } catch (error) {
    if (isLlmNodeError(error) && codes.includes(error.code)) return undefined
    throw error
  }
}

export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0
}

/** `input` cut or filled with zeros to `length` bytes. */
export function resized(input: Uint8Array, length: number): Uint8Array {
  const out = new Uint8Array(length)
  out.set(input.subarray(0, length))
  return out
}
