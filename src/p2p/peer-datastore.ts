import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { MemoryDatastore } from 'datastore-core'
import { LevelDatastore } from 'datastore-level'
import type { Key } from 'interface-datastore'
import { LlmNodeError } from '../base/errors.ts'
import { p2pLimits } from '../base/limits.ts'
import type { Logger } from '../base/logger.ts'

const WRITE_AFTER_MS = 1_000
/** Where libp2p's peer store keeps each peer. */
const PEERS = '/peers/'

/** Without a value the key was deleted. */
interface Change {
  readonly key: Key
  readonly value?: Uint8Array
}

/**
 * Known peers: read and changed in memory, and written to the disk a moment later, many changes at a time, for libp2p reads
 * a peer again and again while it connects. A crash loses the last second. Of more than p2pLimits.knownPeers the one goes
 * of which nothing was noted for longest. Throws HOME_IN_USE, HOME_UNUSABLE; a damaged store starts anew.
 */
export async function openPeerDatastore(folder: string, logger: Logger): Promise<PeerDatastore> {
  const level = await openLevel(join(folder, 'peers'), folder, logger)
  const store = new PeerDatastore(level, logger)
  await store.load()
  return store
}

export class PeerDatastore extends MemoryDatastore {
  readonly #level: LevelDatastore
  readonly #logger: Logger
  /** Least recently written first. */
  readonly #peers = new Map<string, Key>()
  #changed = new Map<string, Change>()
  #timer: NodeJS.Timeout | undefined
  #written: Promise<void> = Promise.resolve()

  constructor(level: LevelDatastore, logger: Logger) {
    super()
    this.#level = level
    this.#logger = logger
  }

  async load(): Promise<void> {
    for await (const { key, value } of this.#level.query({})) this.#take(key, value)
  }

  override put(key: Key, value: Uint8Array): Key {
    this.#take(key, value)
    this.#change({ key, value })
    return key
  }

  override delete(key: Key): void {
    super.delete(key)
    this.#peers.delete(key.toString())
    this.#change({ key })
  }

  /** Writes what is not written yet, and lets go of the disk. */
  async close(): Promise<void> {
    clearTimeout(this.#timer)
    this.#write()
    await this.#written
    await this.#level.close()
  }

  #take(key: Key, value: Uint8Array): void {
    super.put(key, value)
    const name = key.toString()
    if (!name.startsWith(PEERS)) return
    this.#peers.delete(name)
    this.#peers.set(name, key)
    const [oldest] = this.#peers.values()
    if (this.#peers.size > p2pLimits.knownPeers && oldest !== undefined) this.delete(oldest)
  }

  #change(change: Change): void {
    this.#changed.set(change.key.toString(), change)
    this.#timer ??= setTimeout(() => this.#write(), WRITE_AFTER_MS).unref()
  }

  #write(): void {
    this.#timer = undefined
    const changed = this.#changed
    if (changed.size === 0) return
    this.#changed = new Map()
    this.#written = this.#written.then(async () => {
      const batch = this.#level.batch()
      for (const { key, value } of changed.values()) {
        if (value === undefined) batch.delete(key)
        else batch.put(key, value)
      }
      try {
        await batch.commit()
      } catch (err) {
        // With the next change they are tried again.
        this.#changed = new Map([...changed, ...this.#changed])
        this.#logger.warn({ err }, 'known peers not saved')
      }
    })
  }
}

async function openLevel(path: string, folder: string, logger: Logger): Promise<LevelDatastore> {
  for (let attempt = 0; ; attempt++) {
    const datastore = new LevelDatastore(path)
    try {
      // Not datastore.open(): that hides the reason.
      await datastore.db.open({ createIfMissing: true })
      return datastore
    } catch (cause) {
      const reason = levelCode(cause)
      if (reason === 'LEVEL_LOCKED') {
        throw new LlmNodeError('HOME_IN_USE', `Another llm-node is running with the folder ${folder}.`, {
          hint: 'Stop it with llm-node stop, or name another folder with --home DIR.',
          cause,
        })
      }
      if (reason !== 'LEVEL_CORRUPTION' || attempt > 0) {
        throw new LlmNodeError('HOME_UNUSABLE', `${path} cannot be used.`, {
          hint: 'Give this user access to it, or delete it: it only holds the addresses of known peers.',
          cause,
        })
      }
      // Known peers are only a convenience: a damaged store is replaced.
      logger.warn({ path }, 'the store of known peers is damaged and starts anew')
      await rm(path, { recursive: true, force: true })
    }
  }
}

function levelCode(error: unknown): string | undefined {
  const cause = error instanceof Error ? error.cause : undefined
  return cause instanceof Error ? (cause as NodeJS.ErrnoException).code : undefined
}
