import type { RunBuffers } from './staging.ts'

/** Rows of several callers in one run of the head: a row's logits do not depend on its neighbours (engine.md §6). */
export interface HeadQueue {
  /** hidden [nTokens, hiddenSize] → logits [nTokens, vocabSize] */
  logits(hidden: Float32Array): Promise<Float32Array>
  /** Resolves when nothing runs or waits. */
  idle(): Promise<void>
}

interface Piece {
  readonly hidden: Float32Array
  readonly nTokens: number
  readonly resolve: (logits: Float32Array) => void
  readonly reject: (error: unknown) => void
}

export interface HeadQueueOptions {
  readonly hiddenSize: number
  readonly vocabSize: number
  /** Of one run. */
  readonly maxRows: number
  /** One run at a time over the rows of all parts; resolves with what holds its output. */
  readonly run: (parts: readonly Float32Array[], nTokens: number) => Promise<RunBuffers>
}

export function createHeadQueue({ hiddenSize, vocabSize, maxRows, run }: HeadQueueOptions): HeadQueue {
  const waiting: Piece[] = []
  let running: Promise<void> | null = null
  /** Several callers came together the last time: the next ones are given the same turn of the event loop to come. */
  let isCrowded = false

  const take = (): Piece[] => {
    let nTokens = 0
    const pieces: Piece[] = []
    for (let piece = waiting[0]; piece !== undefined && nTokens + piece.nTokens <= maxRows; piece = waiting[0]) {
      nTokens += piece.nTokens
      pieces.push(piece)
      waiting.shift()
    }
    return pieces
  }
  const step = async () => {
    if (isCrowded) await new Promise((resolve) => setImmediate(resolve))
    const pieces = take()
    isCrowded = pieces.length > 1
    try {
      const nTokens = pieces.reduce((sum, piece) => sum + piece.nTokens, 0)
      const parts = pieces.map((piece) => piece.hidden)
      const buffers = await run(parts, nTokens)
      let row = 0
      for (const piece of pieces) {
        piece.resolve(buffers.take(piece.nTokens, row))
        row += piece.nTokens
      }
    } catch (error) {
      for (const piece of pieces) piece.reject(error)
    }
    isCrowded ||= waiting.length > 0
  }
  const work = async () => {
    while (waiting.length > 0) await step()
    running = null
  }
  const enqueue = (hidden: Float32Array) =>
    new Promise<Float32Array>((resolve, reject) => {
      waiting.push({ hidden, nTokens: hidden.length / hiddenSize, resolve, reject })
      running ??= work()
    })

  return {
    async logits(hidden) {
      const pieceLength = maxRows * hiddenSize
      if (hidden.length <= pieceLength) return enqueue(hidden)
      const pieces: Promise<Float32Array>[] = []
      for (let at = 0; at < hidden.length; at += pieceLength)
        pieces.push(enqueue(hidden.subarray(at, at + pieceLength)))
      const logits = new Float32Array((hidden.length / hiddenSize) * vocabSize)
      let at = 0
      for (const rows of await Promise.all(pieces)) {
        logits.set(rows, at)
        at += rows.length
      }
      return logits
    },
    async idle() {
      while (running !== null) await running
    },
  }
}
