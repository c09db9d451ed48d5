import { createHash } from 'node:crypto'
import { type FileHandle, open, readFile, rm } from 'node:fs/promises'
import { type ByteRange, mergeRanges, type Unit } from './units.ts'

/**
 * The source bytes of an unfinished unit: a data file, and beside it a journal of the ranges that are in it. A range
 * enters the journal only when its bytes are on the disk, so a crash at any moment loses at most what came after.
 */
export interface PartialFile {
  readonly path: string
  /** Ranges that an earlier run has left, merged. */
  readonly done: readonly ByteRange[]
  write(at: number, bytes: Uint8Array): Promise<void>
  /** Makes the ranges, written before, survive a crash. */
  commit(ranges: readonly ByteRange[]): Promise<void>
  close(): Promise<void>
}

/** `state` names what the bytes belong to (model id, file versions): a partial file of anything else is begun anew. */
export async function openPartial(path: string, unit: Unit, state: string): Promise<PartialFile> {
  const layout = unit.tensors.map(({ name, file, begin, end, at }) => [name, file, begin, end, at])
  const key = createHash('sha256')
    .update(JSON.stringify([state, layout]))
    .digest('hex')
  const journalPath = journalOf(path)
  const earlier = await readJournal(journalPath, key, unit.rawBytes)
  const data = await open(path, earlier === null ? 'w' : 'r+').catch(() => null)
  // A journal without its data says nothing.
  const done = data && earlier !== null ? await withinFile(data, earlier) : []
  const file = data ?? (await open(path, 'w'))
  const journal = await open(journalPath, done.length > 0 ? 'a' : 'w')
  // The newline first: a kill may have left half a line at the end.
  await journal.appendFile(done.length > 0 ? '\n' : `${key}\n`)
  await journal.datasync()
  return {
    path,
    done,
    async write(at, bytes) {
      for (let offset = 0; offset < bytes.length; ) {
        const { bytesWritten } = await file.write(bytes, offset, bytes.length - offset, at + offset)
        offset += bytesWritten
      }
    },
    async commit(ranges) {
      await file.datasync()
      await journal.appendFile(ranges.map(({ begin, end }) => `${begin}-${end};\n`).join(''))
    },
    async close() {
      await file.close()
      await journal.close()
    },
  }
}

export async function removePartial(path: string): Promise<void> {
  // The journal first: data without a journal is nothing, a journal without data would be a lie.
  await rm(journalOf(path), { force: true })
  await rm(path, { force: true })
}

/** Suffix of the data file beside a unit's file name. */
export function partialName(fileName: string): string {
  return fileName.replace(/\.safetensors$/, '.partial')
}

function journalOf(path: string): string {
  return `${path}.ranges`
}

/** Merged ranges; null when there is no journal for `key`. Half lines are left out. */
async function readJournal(path: string, key: string, rawBytes: number): Promise<ByteRange[] | null> {
  const text = await readFile(path, 'utf8').catch(() => null)
  const [first, ...lines] = text?.split('\n') ?? []
  if (first !== key) return null
  const ranges: ByteRange[] = []
  for (const line of lines) {
    const match = /^(\d{1,15})-(\d{1,15});$/.exec(line)
    const range = { begin: Number(match?.[1]), end: Number(match?.[2]) }
    if (match && range.begin < range.end && range.end <= rawBytes) ranges.push(range)
  }
  return mergeRanges(ranges)
}

async function withinFile(file: FileHandle, ranges: readonly ByteRange[]): Promise<ByteRange[]> {
  const { size } = await file.stat()
  return ranges.filter(({ end }) => end <= size)
}
