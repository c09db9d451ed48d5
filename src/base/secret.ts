import { inspect } from 'node:util'

/** Key bytes that no log, error or JSON shows: only `reveal` gives them out, so every use can be searched for. */
export interface Secret {
  reveal(): Uint8Array
  /** Overwrites the bytes. */
  wipe(): void
}

class HiddenBytes implements Secret {
  readonly #bytes: Uint8Array

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  reveal(): Uint8Array {
    return this.#bytes
  }

  wipe(): void {
    this.#bytes.fill(0)
  }

  toString(): string {
    return '[secret]'
  }

  toJSON(): string {
    return '[secret]'
  }

  [inspect.custom](): string {
    return '[secret]'
  }
}

/** Takes the bytes over: the caller keeps no other reference to them. */
export function createSecret(bytes: Uint8Array): Secret {
  return new HiddenBytes(bytes)
}
