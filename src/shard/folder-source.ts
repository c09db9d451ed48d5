import { type FileHandle, open } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { LlmNodeError } from '../base/errors.ts'
import type { FileVersion, ModelSource } from './source.ts'

/** Bytes read from the disk at once. */
const readBytes = 1_048_576

/** A model in a folder on this machine, as a Hugging Face repository lays it out. */
export function createFolderSource(folder: string): ModelSource {
  return {
    id: folder,
    async readFile(file, { maxBytes }) {
      const handle = await openFile(folder, file)
      if (!handle) return null
      try {
        const { size } = await handle.stat()
        if (size > maxBytes) throw new LlmNodeError('LIMIT', `${file} is larger than ${maxBytes} bytes.`)
        return await handle.readFile()
      } finally {
        await handle.close()
      }
    },
    async openRange({ file, begin, end, known, signal }) {
      const found = await examine(folder, file)
      const { version, fileBytes } = found
      if (known && (known.version !== version || known.fileBytes !== fileBytes)) throw changed(file)
      if (begin >= fileBytes) {
        throw new LlmNodeError('MODEL_CORRUPT', `${file} has only ${fileBytes} bytes.`, { meta: { file } })
      }
      const stop = Math.min(end, fileBytes)
      return { ...found, end: stop, chunks: readChunks(folder, file, found, begin, stop, signal) }
    },
  }
}

/** Size and time of the last change stand for the version: there is no better one without reading the file. */
async function examine(folder: string, file: string): Promise<FileVersion> {
  const handle = await openFile(folder, file)
  if (!handle) throw new LlmNodeError('MODEL_NOT_FOUND', `${folder} has no ${file}.`, { meta: { file } })
  try {
    const { size, mtimeMs } = await handle.stat()
    return { version: `"${size}-${mtimeMs}"`, fileBytes: size }
  } finally {
    await handle.close()
  }
}

async function openFile(folder: string, file: string): Promise<FileHandle | null> {
  if (file !== basename(file)) throw new LlmNodeError('BAD_INPUT', `${file} is not a plain file name.`)
  try {
    return await open(join(folder, file))
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') return null
    throw new LlmNodeError('DOWNLOAD_FAILED', `${join(folder, file)} cannot be opened.`, { cause })
  }
}

async function* readChunks(
  folder: string,
  file: string,
  expected: FileVersion,
  begin: number,
  end: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  const handle = await openFile(folder, file)
  if (!handle) throw changed(file)
  try {
    for (let at = begin; at < end; ) {
      if (signal?.aborted) throw new LlmNodeError('ABORTED', 'Stopped on request.')
      const chunk = new Uint8Array(Math.min(readBytes, end - at))
      const { bytesRead } = await handle.read(chunk, 0, chunk.length, at)
      if (bytesRead === 0 || (await examine(folder, file)).version !== expected.version) throw changed(file)
      at += bytesRead
      yield chunk.subarray(0, bytesRead)
    }
  } finally {
    await handle.close()
  }
}

function changed(file: string): LlmNodeError {
  return new LlmNodeError('MODEL_CHANGED', `${file} has changed.`, {
    hint: 'Run it again; parts of the earlier version are read anew.',
    meta: { file },
  })
}
