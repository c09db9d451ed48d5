import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { appendFile, mkdir, readdir, readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { concatBytes, fromUtf8, utf8 } from '../base/bytes.ts'
import { LlmNodeError } from '../base/errors.ts'
import { pipelineLimits } from '../base/limits.ts'
import type { Logger } from '../base/logger.ts'
import type { Secret } from '../base/secret.ts'
import type { Transcript, TranscriptHead, TranscriptLog, TranscriptStore } from '../pipeline/transcript.ts'

export interface Transcripts extends TranscriptStore {
  /** That of `id`, or the latest one. Throws BAD_INPUT when there is none, AUTH_FAILED when it is another caller's. */
  open(id: string | undefined, owner: string | null): Promise<Transcript>
  /** Removes those that are too old. */
  sweep(): Promise<void>
  /** From now on nothing is discarded: the node stops, and its answers may go on after the next start. */
  keepAll(): void
}

/** Ids of so long go together. What a crash takes with it is computed again, and is the same. */
const GATHER_MS = 100
const NONCE_BYTES = 12
const TAG_BYTES = 16
/** The names of answers: gen- of the command line's, chatcmpl- and cmpl- of the API's. */
const ID = /^[a-z]{2,16}-[0-9a-f]{16,32}$/

/**
 * Transcripts as files below `folder`, 0600: records of u32 length | nonce | AES-256-GCM, each bound to the answer and its
 * own place. The key comes from the identity's, so they are as safe as the keystore: with a password on it nobody reads
 * them without. A record that a crash has cut off is left out.
 */
export function createTranscripts(
  folder: string,
  { key, logger, nowMs = Date.now }: { key: Secret; logger: Logger; nowMs?: () => number },
): Transcripts {
  return new TranscriptFiles(folder, key, logger, nowMs)
}

class TranscriptFiles implements Transcripts {
  readonly #folder: string
  readonly #key: Secret
  readonly #logger: Logger
  readonly #nowMs: () => number
  #keeping = false

  constructor(folder: string, key: Secret, logger: Logger, nowMs: () => number) {
    this.#folder = folder
    this.#key = key
    this.#logger = logger
    this.#nowMs = nowMs
  }

  begin(head: TranscriptHead): TranscriptLog {
    const path = this.#pathOf(head.id)
    let records = 0
    let bytes = 0
    let broken = false
    let work = mkdir(this.#folder, { recursive: true, mode: 0o700 }).then(() => rm(path, { force: true }))
    const write = (content: unknown) => {
      work = work
        .then(async () => {
          if (broken) return
          const record = sealRecord(this.#key, { id: head.id, index: records++ }, utf8(JSON.stringify(content)))
          bytes += record.length
          if (bytes > pipelineLimits.transcriptBytes) throw new Error('the transcript is too long')
          await appendFile(path, record, { mode: 0o600 })
        })
        .catch((err: unknown) => {
          if (!broken) this.#logger.warn({ err }, 'an answer cannot be kept for after a restart')
          broken = true
        })
    }
    let waiting: number[] = []
    let timer: NodeJS.Timeout | undefined
    const writeWaiting = () => {
      clearTimeout(timer)
      timer = undefined
      const ids = waiting
      waiting = []
      if (ids.length > 0) write(ids)
    }
    write(head)
    return {
      add(ids) {
        for (const id of ids) waiting.push(id)
        timer ??= setTimeout(writeWaiting, GATHER_MS)
      },
      async flush() {
        writeWaiting()
        await work
      },
      discard: async () => {
        clearTimeout(timer)
        await work
        if (!this.#keeping) await rm(path, { force: true }).catch(() => {})
      },
    }
  }

  async open(id: string | undefined, owner: string | null): Promise<Transcript> {
    await this.sweep()
    const names = await this.#ids()
    const wanted = id === undefined ? await this.#latestFirst(names) : names.filter((name) => name === id)
    for (const name of wanted) {
      const transcript = await this.#read(name)
      if (transcript === undefined) continue
      if (transcript.request.owner === owner) return transcript
    }
    throw new LlmNodeError(
      'BAD_INPUT',
      id === undefined ? 'No answer waits to go on.' : `No answer ${id} waits to go on.`,
      {
        hint: 'An answer is kept until it is finished, for 24 hours at most, unless it was asked with --no-persist.',
      },
    )
  }

  async sweep(): Promise<void> {
    const oldestMs = this.#nowMs() - pipelineLimits.suspendMs
    const names = await this.#ids()
    const latest = await this.#latestFirst(names)
    for (const [place, name] of latest.entries()) {
      const { mtimeMs } = await stat(this.#pathOf(name)).catch(() => ({ mtimeMs: 0 }))
      if (mtimeMs < oldestMs || place >= pipelineLimits.transcripts) await rm(this.#pathOf(name), { force: true })
    }
  }

  keepAll(): void {
    this.#keeping = true
  }

  async #ids(): Promise<string[]> {
    return (await readdir(this.#folder).catch(() => [])).filter((name) => ID.test(name))
  }

  async #latestFirst(names: readonly string[]): Promise<string[]> {
    const times = await Promise.all(
      names.map(async (name) => ({ name, ms: (await stat(this.#pathOf(name)).catch(() => ({ mtimeMs: 0 }))).mtimeMs })),
    )
    return times.sort((a, b) => b.ms - a.ms).map(({ name }) => name)
  }

  async #read(id: string): Promise<Transcript | undefined> {
    const { size } = await stat(this.#pathOf(id))
    if (size > pipelineLimits.transcriptBytes) return undefined
    const contents = openRecords(this.#key, id, await readFile(this.#pathOf(id)))
    const [head, ...rest] = contents.map((content) => JSON.parse(fromUtf8(content)) as unknown)
    if (head === undefined) return undefined
    return { ...(head as TranscriptHead), ids: (rest as number[][]).flat() }
  }

  #pathOf(id: string): string {
    if (!ID.test(id)) throw new LlmNodeError('BAD_INPUT', `"${id}" is not the id of an answer.`)
    return join(this.#folder, id)
  }
}

interface Place {
  readonly id: string
  readonly index: number
}

function aadOf({ id, index }: Place): Uint8Array {
  return utf8(`llm-node transcript v1 ${id} ${index}`)
}

function sealRecord(key: Secret, place: Place, content: Uint8Array): Uint8Array {
  const nonce = randomBytes(NONCE_BYTES)
  const cipher = createCipheriv('aes-256-gcm', key.reveal(), nonce, { authTagLength: TAG_BYTES }).setAAD(aadOf(place))
  const sealed = concatBytes(nonce, cipher.update(content), cipher.final(), cipher.getAuthTag())
  const length = new Uint8Array(4)
  new DataView(length.buffer).setUint32(0, sealed.length)
  return concatBytes(length, sealed)
}

/** The records up to the first that is cut off or not this key's. */
function openRecords(key: Secret, id: string, file: Uint8Array): Uint8Array[] {
  const contents: Uint8Array[] = []
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength)
  for (let at = 0; at + 4 <= file.length; ) {
    const end = at + 4 + view.getUint32(at)
    if (end > file.length || end - at < 4 + NONCE_BYTES + TAG_BYTES) break
    const record = file.subarray(at + 4, end)
    const decipher = createDecipheriv('aes-256-gcm', key.reveal(), record.subarray(0, NONCE_BYTES), {
      authTagLength: TAG_BYTES,
    })
    decipher.setAAD(aadOf({ id, index: contents.length })).setAuthTag(record.subarray(-TAG_BYTES))
    try {
      contents.push(Buffer.concat([decipher.update(record.subarray(NONCE_BYTES, -TAG_BYTES)), decipher.final()]))
    } catch {
      break
    }
    at = end
  }
  return contents
}
