import koffi from 'koffi'

/** mallopt(3): blocks of at least this many bytes get pages of their own. Setting it stops glibc from raising it. */
const mMmapThreshold = -3
/** Below every KV tensor of a real model (1 MiB at the first step), above what a run allocates often. */
const thresholdBytes = 524_288

/**
 * Makes large blocks go back to the operating system when they are freed. glibc raises its threshold with the first
 * one that is freed, and from then on KV memory that a session gave back stays in the heap: measured 360 of 470 MB.
 * Other systems give large blocks back by themselves.
 */
export function returnLargeAllocations(): void {
  if (process.platform !== 'linux') return
  try {
    koffi.load('libc.so.6').func('mallopt', 'int', ['int', 'int'])(mMmapThreshold, thresholdBytes)
  } catch {
    // Not glibc: nothing to set.
  }
}
