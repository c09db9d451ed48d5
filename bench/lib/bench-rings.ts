/** Rings over stops in processes of their own: with the onion layer, and the same without it. */
import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { fromHex } from '../../src/base/bytes.ts'
import { type BenchRing, openPlainRing, type PlainStop } from './plain-ring.ts'
import { createRingNode, HIDDEN, MAX_CONTEXT } from './ring-node.ts'

/** "rcccr": relays and compute hops in order. */
export async function openBenchRing(
  shape: string,
  options: { onion: boolean; cadenceMs?: number },
): Promise<BenchRing> {
  const folder = await mkdtemp(join(tmpdir(), 'llm-node-bench-ring-'))
  const stops = await Promise.all([...shape].map((kind) => startStop(!options.onion, kind === 'c')))
  const entry = await createRingNode(folder, { onion: options.onion, computes: false })
  const targets = stops.map(({ said }) => ({ peerId: said.peerId, addrs: said.addrs }))
  const close = async (ring: BenchRing) => {
    await ring.close()
    await entry.stop()
    await Promise.all(stops.map((stop) => stop.close()))
    await rm(folder, { recursive: true, force: true })
  }
  if (entry.onion === undefined) {
    const own = { peerId: entry.identity.peerId, addrs: entry.peer.self.addrs() }
    for (const [index, stop] of stops.entries()) {
      const computes = shape[index] === 'c'
      stop.tell({ next: targets[index + 1] ?? own, computes, tail: computes && !shape.slice(index + 1).includes('c') })
    }
    const [first] = targets
    if (first === undefined) throw new Error('a ring without stops')
    const ring = await openPlainRing(entry.peer, first, HIDDEN)
    return { forward: (frame) => ring.forward(frame), close: () => close(ring) }
  }
  let start = 0
  const ring = await entry.onion.openRing(
    {
      hops: stops.map(({ said }, index) => {
        const keys = { addressKey: fromHex(said.addressKey), onionKey: fromHex(said.onionKey) }
        const base = { ...keys, peerId: said.peerId, addrs: said.addrs }
        if (shape[index] === 'r') return { role: 'relay', ...base }
        start++
        return { role: 'compute', ...base, span: { start: start - 1, end: start } }
      }),
      modelId: new Uint8Array(32).fill(7),
      numericsClass: new Uint8Array(32),
      hiddenSize: HIDDEN,
      maxContext: MAX_CONTEXT,
      ...(options.cadenceMs === undefined ? {} : { cadenceMs: options.cadenceMs }),
    },
    { signal: AbortSignal.timeout(30_000) },
  )
  const bench: BenchRing = {
    forward: async (frame) => (await ring.forward(frame)).hidden,
    close: () => ring.close(),
  }
  return { forward: (frame) => bench.forward(frame), close: () => close(bench) }
}

interface Said {
  readonly addressKey: string
  readonly onionKey: string
  readonly peerId: string
  readonly addrs: string[]
}

async function startStop(plain: boolean, computes: boolean) {
  const program = fileURLToPath(new URL('./ring-hop-process.ts', import.meta.url))
  const child = spawn(process.execPath, [program, JSON.stringify({ plain, computes })], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const { value } = await lines.next()
  return {
    said: JSON.parse(String(value)) as Said,
    tell: (stop: PlainStop) => child.stdin.write(`${JSON.stringify(stop)}\n`),
    async close() {
      const ended = new Promise<void>((resolve) => child.once('close', () => resolve()))
      child.stdin.end()
      await ended
    },
  }
}
