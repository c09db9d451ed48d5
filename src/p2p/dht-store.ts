import { MemoryDatastore } from 'datastore-core'
import { type Datastore, Key } from 'interface-datastore'
import { p2pLimits } from '../base/limits.ts'

/** Caps of one DHT's records. */
export interface DhtStoreLimits {
  readonly dhtRecords: number
  readonly dhtRecordBytes: number
}

/**
 * What this node keeps for the DHT: records and providers, in memory. Above its caps the oldest entry goes; records older
 * than p2pLimits.dhtRecordMs go at the next one that comes. With `keepOn` the same, no more, is kept on a disk.
 */
export class DhtStore extends MemoryDatastore {
  readonly #nowMs: () => number
  readonly #limits: DhtStoreLimits
  readonly #records = new Map<string, { readonly key: Key; readonly bytes: number; readonly atMs: number }>()
  readonly #providers = new Map<string, Key>()
  #recordBytes = 0
  #disk: Datastore | undefined
  #written: Promise<unknown> = Promise.resolve()

  constructor(nowMs: () => number, limits: DhtStoreLimits = p2pLimits) {
    super()
    this.#nowMs = nowMs
    this.#limits = limits
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

  /** Takes over what an earlier run left under `prefix` on `disk`, and writes every change there from now on. */
  async keepOn(disk: Datastore, prefix: string): Promise<void> {
    const left: { key: Key; value: Uint8Array }[] = []
    const most = this.#limits.dhtRecords + p2pLimits.dhtProviders
    for await (const entry of disk.query({ prefix, limit: most })) left.push(entry)
    // What has come in the meantime is newer.
    for (const { key, value } of left) if (!this.has(key)) this.put(key, value)
    this.#disk = disk
    for (const key of [...this.#records.keys(), ...this.#providers.keys()]) this.#write(key)
  }

  /** Resolves when `disk` has been given everything; it may write later, as peer-datastore.ts does. */
  async flushed(): Promise<void> {
    await this.#written
  }

  override put(key: Key, value: Uint8Array): Key {
    const name = key.toString()
    this.#forget(name)
    if (name.includes('/record/')) {
      this.#expire()
      while (
        this.#records.size >= this.#limits.dhtRecords ||
        this.#recordBytes + value.length > this.#limits.dhtRecordBytes
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
    this.#write(name)
    return key
  }

  override delete(key: Key): void {
    this.#forget(key.toString())
    super.delete(key)
    this.#write(key.toString())
  }

  /** One after the other, each as it is when its turn comes; a disk that fails costs what was to be kept, no more. */
  #write(name: string): void {
    const disk = this.#disk
    if (disk === undefined) return
    const key = new Key(name)
    this.#written = this.#written
      .then(async () => (this.has(key) ? disk.put(key, await this.get(key)) : disk.delete(key)))
      .catch(() => {})
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
