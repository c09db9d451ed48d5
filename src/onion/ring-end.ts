import { generateKeyPairSync } from 'node:crypto'
import { createSecret } from '../base/secret.ts'
import { KEY_BYTES } from './crypto.ts'
import type { OnionKey } from './handshake.ts'
import type { HopContext, RingEnd } from './hop-context.ts'

/** Where the entry's own end of a ring waits for its closing CREATE. */
export interface RingEnds {
  add(publicX: Uint8Array, end: RingEnd): void
  remove(end: RingEnd): void
}

/** An end of a ring with what it holds: `close` ends the stream that came in, `wipe` its one-time keys. */
export interface OwnedRingEnd {
  readonly end: RingEnd
  close(): void
  wipe(): void
}

export function createRingEnd(
  { options, clock, crypto }: Pick<HopContext, 'options' | 'clock' | 'crypto'>,
  lastHopPeer: string,
  hooks: { onData(frame: Uint8Array): void; onEnd(): void },
): OwnedRingEnd {
  const published = options.published()
  const keys = published
    ? { addressKey: options.identity.addressKey, onionKeys: options.identity.onionKeys(clock.nowMs()) }
    : oneTimeKeys(crypto)
  let destroy: (() => void) | undefined
  let closed = false
  return {
    end: {
      ...keys,
      lastHopPeer,
      attach(circuit) {
        destroy = () => circuit.destroy('the ring is closed')
        if (closed) destroy()
      },
      // What an end that was given up still hears is not about the ring any more.
      onData: (frame) => (closed ? undefined : hooks.onData(frame)),
      onEnd: () => (closed ? undefined : hooks.onEnd()),
    },
    close() {
      closed = true
      destroy?.()
    },
    wipe() {
      if (!published) for (const key of keys.onionKeys) key.privateKey.wipe()
    },
  }
}

/** A node that has published nothing tells the last hop nothing lasting about itself. */
function oneTimeKeys(crypto: HopContext['crypto']): { addressKey: Uint8Array; onionKeys: readonly OnionKey[] } {
  const der = generateKeyPairSync('ed25519').publicKey.export({ format: 'der', type: 'spki' })
  const privateKey = createSecret(crypto.random(KEY_BYTES))
  const onionKey = { publicKey: crypto.x25519PublicKey(privateKey.reveal()), privateKey }
  return { addressKey: der.subarray(-KEY_BYTES), onionKeys: [onionKey] }
}
