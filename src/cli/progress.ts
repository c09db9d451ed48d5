import { formatBytes } from './output.ts'

export interface ProgressLine {
  update(doneBytes: number, totalBytes: number): void
  /** Ends the line. Idempotent. */
  done(): void
}

const REDRAW_MS = 100

/** On a terminal one line that is drawn again; elsewhere a line for every 10 %. Always stderr. */
export function createProgressLine(what: string): ProgressLine {
  const terminal = process.stderr.isTTY === true
  const startedMs = performance.now()
  let drawnMs = 0
  // What an earlier run had fetched says nothing about the speed of this one.
  let firstBytes: number | undefined
  let tenths = 0
  let open = false
  return {
    update(doneBytes, totalBytes) {
      firstBytes ??= doneBytes
      const pace = { newBytes: doneBytes - firstBytes, elapsedMs: performance.now() - startedMs }
      const share = totalBytes === 0 ? 1 : doneBytes / totalBytes
      const nowMs = performance.now()
      if (terminal && (nowMs - drawnMs > REDRAW_MS || share === 1)) {
        drawnMs = nowMs
        open = true
        process.stderr.write(`\r\x1b[K${describe(what, doneBytes, totalBytes, pace)}`)
      }
      if (!terminal && Math.floor(share * 10) > tenths) {
        tenths = Math.floor(share * 10)
        process.stderr.write(`${describe(what, doneBytes, totalBytes, pace)}\n`)
      }
    },
    done() {
      if (open) process.stderr.write('\n')
      open = false
    },
  }
}

function describe(
  what: string,
  doneBytes: number,
  totalBytes: number,
  pace: { newBytes: number; elapsedMs: number },
): string {
  const perSecond = pace.newBytes / Math.max(pace.elapsedMs / 1000, 0.001)
  const left = pace.newBytes === 0 ? '' : `, ${Math.ceil((totalBytes - doneBytes) / perSecond)} s left`
  const percent = totalBytes === 0 ? 100 : Math.floor((doneBytes * 100) / totalBytes)
  return `${what}: ${percent} %, ${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}, ${formatBytes(perSecond)}/s${left}`
}
