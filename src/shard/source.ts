/** Where a model's files come from: a Hugging Face server, any HTTP(S) folder, or a folder on this machine. */
export interface ModelSource {
  /** What the user would write to name it again; without any token. */
  readonly id: string
  /** A whole small file; null when the source does not have it. Throws DOWNLOAD_FAILED, LIMIT, ABORTED. */
  readFile(file: string, options: { maxBytes: number; signal?: AbortSignal }): Promise<Uint8Array | null>
  /**
   * Bytes [begin, end) of a file as they arrive. Short answers are resumed and passing failures tried again.
   * Throws, here or while the bytes are read, MODEL_NOT_FOUND, MODEL_CHANGED, DOWNLOAD_FAILED, ABORTED.
   */
  openRange(request: RangeRequest): Promise<FileRange>
}

export interface RangeRequest {
  readonly file: string
  readonly begin: number
  /** May lie beyond the end of the file. */
  readonly end: number
  /** The file as seen before: another version or length is MODEL_CHANGED. */
  readonly known?: FileVersion
  readonly signal?: AbortSignal
}

export interface FileVersion {
  /** ETag or Last-Modified; null when the source states neither. */
  readonly version: string | null
  readonly fileBytes: number
}

export interface FileRange extends FileVersion {
  /** Where the range really ends: `end`, or the end of the file. */
  readonly end: number
  /** In order and gapless from `begin`, together end − begin bytes. Read it to the end, or return() it. */
  readonly chunks: AsyncIterable<Uint8Array>
}
