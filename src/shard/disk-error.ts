import { LlmNodeError, toLlmNodeError } from '../base/errors.ts'

/** A full disk said so; anything else as toLlmNodeError has it. */
export function toStorageError(error: unknown): LlmNodeError {
  if (error instanceof Error && 'code' in error && (error.code === 'ENOSPC' || error.code === 'EDQUOT')) {
    return new LlmNodeError('DISK_FULL', 'The disk became full during the download.', {
      hint: 'Free some space and run it again: what has arrived is kept.',
      cause: error,
    })
  }
  return toLlmNodeError(error)
}
