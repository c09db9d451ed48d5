/**
 * The same ring without the onion layer: the same streams, chunks and window, no handshake, no sealing, no control frames.
 * Only here: nothing in src/ can do it.
 */
import { bytesOf } from '../../src/onion/data.ts'
import { writeDataHeader } from '../../src/onion/frames.ts'
import type { CircuitTransport, FrameLink, PeerTarget } from '../../src/onion/ports.ts'
import { CHUNK_CLASSES, DATA_HEADER_BYTES } from '../../src/p2p/circuit-frames.ts'

/** As much as the onion's first chunk carries. */
const HEADER_BYTES = 22
const TAG_BYTES = 16
const ROOM = 61_440 - HEADER_BYTES
const WINDOW_BYTES = 4 * 1_048_576

interface Rows {
  /** How many bytes of them the last stop gives back. */
  readonly wantBytes: number
  readonly bytes: Uint8Array<ArrayBuffer>
}

function sendRows(link: FrameLink, { wantBytes, bytes }: Rows): void {
  let offset = 0
  do {
    const length = Math.min(ROOM, bytes.length - offset)
    const size = CHUNK_CLASSES.find((each) => each >= HEADER_BYTES + length) ?? 0
    const frame = new Uint8Array(DATA_HEADER_BYTES + size + TAG_BYTES)
    writeDataHeader(frame, 0, 0)
    const view = new DataView(frame.buffer, DATA_HEADER_BYTES)
    view.setUint32(0, bytes.length)
    view.setUint32(4, wantBytes)
    view.setUint32(8, length)
    frame.set(bytes.subarray(offset, offset + length), DATA_HEADER_BYTES + HEADER_BYTES)
    link.send(frame)
    offset += length
  } while (offset < bytes.length)
}

function readRows(link: FrameLink, onRows: (rows: Rows) => void): void {
  let pending: { bytes: Uint8Array<ArrayBuffer>; filled: number } | undefined
  link.onFrame((frame) => {
    const view = new DataView(frame.buffer, frame.byteOffset + DATA_HEADER_BYTES)
    pending ??= { bytes: new Uint8Array(view.getUint32(0)), filled: 0 }
    const length = view.getUint32(8)
    const start = DATA_HEADER_BYTES + HEADER_BYTES
    pending.bytes.set(frame.subarray(start, start + length), pending.filled)
    pending.filled += length
    if (pending.filled < pending.bytes.length) return
    const { bytes } = pending
    pending = undefined
    onRows({ bytes, wantBytes: view.getUint32(4) })
  })
}

export interface PlainStop {
  readonly next: PeerTarget
  /** Gives back what it gets; otherwise it passes frames on. */
  readonly computes: boolean
  /** Only the wanted rows go on from here. */
  readonly tail: boolean
}

export function createPlainStop(transport: CircuitTransport, { next, computes, tail }: PlainStop): void {
  transport.onLink(async (link) => {
    const successor = await transport.open(next, { signal: AbortSignal.timeout(10_000) })
    link.onEnd(() => successor.close())
    if (!computes) {
      link.onFrame((frame) => void successor.send(frame))
      return
    }
    readRows(link, ({ bytes, wantBytes }) => {
      const going = tail ? bytes.slice(bytes.length - wantBytes) : bytes
      sendRows(successor, { bytes: going, wantBytes })
    })
  })
}

export interface BenchRing {
  /** The last `want` rows, when they have been around. */
  forward(frame: { pos: number; hidden: Float32Array; want: number }): Promise<Float32Array>
  close(): Promise<void>
}

export async function openPlainRing(
  transport: CircuitTransport,
  first: PeerTarget,
  hidden: number,
): Promise<BenchRing> {
  const inFlight: { readonly resolve: (rows: Float32Array) => void; readonly sentBytes: number }[] = []
  const waiting: { readonly rows: Rows; readonly resolve: (rows: Float32Array) => void }[] = []
  let underWay = 0
  const link = await transport.open(first, { signal: AbortSignal.timeout(10_000) })
  const pump = () => {
    for (
      let next = waiting[0];
      next !== undefined && underWay + next.rows.bytes.length <= WINDOW_BYTES;
      next = waiting[0]
    ) {
      waiting.shift()
      const sentBytes = next.rows.bytes.length
      underWay += sentBytes
      inFlight.push({ resolve: next.resolve, sentBytes })
      sendRows(link, next.rows)
    }
  }
  transport.onLink((back) => {
    readRows(back, ({ bytes }) => {
      const job = inFlight.shift()
      if (job === undefined) return
      underWay -= job.sentBytes
      job.resolve(new Float32Array(bytes.buffer))
      pump()
    })
  })
  return {
    forward({ hidden: rows, want }) {
      const { promise, resolve } = Promise.withResolvers<Float32Array>()
      waiting.push({ rows: { bytes: bytesOf(rows) as Uint8Array<ArrayBuffer>, wantBytes: 4 * hidden * want }, resolve })
      pump()
      return promise
    },
    async close() {
      link.close()
    },
  }
}
