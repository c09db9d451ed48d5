import { MemoryDatastore } from 'datastore-core'
import type { Key } from 'interface-datastore'
import { p2pLimits } from '../base/limits.ts'

/**
 * What this node keeps for the DHT: records and providers, in memory only, so that strangers never fill the disk. Above
 * its caps the oldest entry goes; records older than p2pLimits.dhtRecordMs go at the next one that comes.
 */
export class DhtStore extends MemoryDatastore {
  readonly #nowMs: () => number
  readonly #records = new Map<string, { readonly key: Key; readonly bytes: number; readonly atMs: number }>()
  readonly #providers = new Map<string, Key>()
  #recordBytes = 0

  constructor(nowMs: () => number) {
    super()
    this.#nowMs = nowMs
  }

  get nRecords(): number {
    return this.#records.size
  }

  get recordBytes(): number {
    return this.#recordBytes
  }

  get nProviders(): number {
    return this.#providers.size
  }

  override put(key: Key, value: Uint8Array): Key {
    const name = key.toString()
    this.#forget(name)
    if (name.includes('/record/')) {
      this.#expire()
      while (
        this.#records.size >= p2pLimits.dhtRecords ||
        this.#recordBytes + value.length > p2pLimits.dhtRecordBytes
      ) {
        if (!this.#dropFirst(this.#records.values().next().value?.key)) break
      }
      this.#records.set(name, { key, bytes: value.length, atMs: this.#nowMs() })
      this.#recordBytes += value.length
    } else {
      if (this.#providers.size >= p2pLimits.dhtProviders) this.#dropFirst(this.#providers.values().next().value)
      this.#providers.set(name, key)
    }
    super.put(key, value)
    return key
  }

  override delete(key: Key): void {
    this.#forget(key.toString())
    super.delete(key)
  }

  #forget(name: string): void {
    this.#recordBytes -= this.#records.get(name)?.bytes ?? 0
    this.#records.delete(name)
    this.#providers.delete(name)
  }

  #dropFirst(key: Key | undefined): boolean {
    if (key !== undefined) this.delete(key)
    return key !== undefined
  }

  /** In the order in which they came, which is the order of their ages. */
  #expire(): void {
    for (const { key, atMs } of this.#records.values()) {
      if (this.#nowMs() - atMs < p2pLimits.dhtRecordMs) return
      this.delete(key)
    }
  }
}
