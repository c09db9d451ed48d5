/**
 * The onion layer without links, on one core: what sealing and opening data costs, what a hop adds to one decode row
 * (open its frame, seal the next), a relay's layer, and a handshake. Then on loopback, each stop a process: rings of three
 * compute hops with 0, 1 and 2 relays, against the same streams, chunks and window without the onion layer. Layers give
 * back what they get, so that only the way is measured; the rate limit of relays is lifted. bench/hop.ts has the demo model.
 */
import { createSecret } from '../src/base/secret.ts'
import { nodeCrypto } from '../src/onion/crypto.ts'
import {
  createRelayLayer,
  createSegmentOpener,
  createSegmentSealer,
  type DataGrant,
  type DataHeader,
  KIND,
} from '../src/onion/data.ts'
import { createClientHandshake, openCreate } from '../src/onion/handshake.ts'
import { copySegment, newSegment } from '../src/onion/ops.ts'
import { openBenchRing } from './lib/bench-rings.ts'
import { benchOptions, median, reportFigures } from './lib/harness.ts'
import type { BenchRing } from './lib/plain-ring.ts'
import { HIDDEN } from './lib/ring-node.ts'

const options = benchOptions()
const ROUNDS = options.quick ? 3 : 9
const MEGABYTE = 1e6
const grant: DataGrant = { kinds: new Set([KIND.forward]), hiddenSize: 1_024, maxRows: 512, maxBytes: 0 }

/** Rows through one segment, sealed at one end and opened at the other. */
function createPair() {
  const segment = newSegment(nodeCrypto.random)
  const sealer = createSegmentSealer(copySegment(segment), [], nodeCrypto)
  const opener = createSegmentOpener(segment, [], grant, nodeCrypto)
  return (nRows: number, body: Uint8Array) => {
    const header: DataHeader = {
      kind: KIND.forward,
      step: 0,
      pos: 0,
      nTokens: nRows,
      want: 1,
      hiddenSize: 1_024,
      totalBytes: body.length,
    }
    let opened = false
    sealer.seal(header, body, (frame) => {
      opened = opener.push(frame) !== undefined
    })
    if (!opened) throw new Error('a frame was not whole')
  }
}

/** Median over rounds of the milliseconds that `times` calls take. */
function measure(times: number, run: () => void): number {
  for (let i = 0; i < times / 10; i++) run()
  const rounds: number[] = []
  for (let round = 0; round < ROUNDS; round++) {
    const startedMs = performance.now()
    for (let i = 0; i < times; i++) run()
    rounds.push(performance.now() - startedMs)
  }
  return median(rounds)
}

function bulkMBps(nRows: number, times: number): number {
  const body = nodeCrypto.random(nRows * 4_096)
  const pass = createPair()
  const ms = measure(times, () => pass(nRows, body))
  return (body.length * times) / MEGABYTE / (ms / 1_000)
}

function relayUs(): number {
  const segment = newSegment(nodeCrypto.random)
  const sealer = createSegmentSealer(segment, [], nodeCrypto)
  const material = nodeCrypto.random(76)
  const [add, peel] = (['add', 'peel'] as const).map((mode) =>
    createRelayLayer(mode, createSecret(Uint8Array.from(material)), nodeCrypto),
  )
  const header = { kind: KIND.forward, step: 0, pos: 0, nTokens: 1, want: 1, hiddenSize: 1_024, totalBytes: 4_096 }
  const body = nodeCrypto.random(4_096)
  const frames: Uint8Array[] = []
  const times = 2_000
  for (let i = 0; i < times * (ROUNDS + 1); i++) sealer.seal(header, body, (frame) => frames.push(frame))
  let next = 0
  const ms = measure(times, () => {
    const frame = frames[next++]
    if (frame !== undefined) peel?.pass(add?.pass(frame) ?? frame)
  })
  return (ms * 1_000) / times / 2
}

/** Both sides together. */
function handshakeUs(): number {
  const privateKey = createSecret(nodeCrypto.random(32))
  const target = { addressKey: nodeCrypto.random(32), onionKey: nodeCrypto.x25519PublicKey(privateKey.reveal()) }
  const own = {
    addressKey: target.addressKey,
    onionKeys: [{ publicKey: target.onionKey, privateKey }],
    network: 'bench',
  }
  const [clientMessage, serverMessage] = [new Uint8Array(144), new Uint8Array(128)]
  const times = 200
  const ms = measure(times, () => {
    const client = createClientHandshake({ target, network: 'bench', clientMessage }, nodeCrypto)
    client.finish(openCreate(client.create, own, nodeCrypto).answer(serverMessage).created)
  })
  return (ms * 1_000) / times
}

interface RingCost {
  readonly stepMs: number
  readonly bulkMBps: number
}

/** In turns, so that a slow minute of the machine meets both. */
async function measureRings(rings: readonly BenchRing[]): Promise<RingCost[]> {
  const row = Float32Array.from({ length: HIDDEN }, (_, i) => Math.sin(i * 0.37))
  const chunk = Float32Array.from({ length: 128 * HIDDEN }, (_, i) => Math.sin(i * 0.37))
  const steps: number[][] = rings.map(() => [])
  const bulks: number[][] = rings.map(() => [])
  const chunks = options.quick ? 32 : 128
  for (let round = 0; round <= ROUNDS; round++) {
    for (const [index, ring] of rings.entries()) {
      const times: number[] = []
      for (let pos = 0; pos < (options.quick ? 100 : 300); pos++) {
        const startedMs = performance.now()
        await ring.forward({ pos, hidden: row, want: 1 })
        times.push(performance.now() - startedMs)
      }
      const startedMs = performance.now()
      const answers = Array.from({ length: chunks }, (_, i) =>
        ring.forward({ pos: 128 * i, hidden: chunk, want: i === chunks - 1 ? 1 : 0 }),
      )
      await Promise.all(answers)
      const bulk = (chunks * chunk.byteLength) / MEGABYTE / ((performance.now() - startedMs) / 1_000)
      // The first round only warms up.
      if (round === 0) continue
      steps[index]?.push(median(times))
      bulks[index]?.push(bulk)
    }
  }
  return rings.map((_, index) => ({ stepMs: median(steps[index] ?? []), bulkMBps: median(bulks[index] ?? []) }))
}

/** A token's time with a beat, which is what the beat says where the ring is faster. */
async function cadenceStepMs(beatMs: number): Promise<number> {
  const ring = await openBenchRing('rcccr', { onion: true, cadenceMs: beatMs })
  const row = new Float32Array(HIDDEN).fill(1)
  const times: number[] = []
  for (let pos = 0; pos < 40; pos++) {
    const startedMs = performance.now()
    await ring.forward({ pos, hidden: row, want: 1 })
    times.push(performance.now() - startedMs)
  }
  await ring.close()
  return median(times)
}

const sealOpenMBps = bulkMBps(512, options.quick ? 20 : 60)
const decodeMBps = bulkMBps(1, 4_000)
const decodeFrameUs = 4_096 / decodeMBps
const figures = { sealOpenMBps, decodeFrameUs, relayLayerUs: relayUs(), handshakeUs: handshakeUs() }
console.log(`seal and open, frames of 2 MiB     ${sealOpenMBps.toFixed(0)} MB/s of rows`)
console.log(`seal and open, one row of 4 KiB    ${decodeFrameUs.toFixed(1)} µs (${decodeMBps.toFixed(0)} MB/s)`)
console.log(`a relay's layer on such a frame    ${figures.relayLayerUs.toFixed(1)} µs`)
console.log(`a handshake, both sides            ${figures.handshakeUs.toFixed(0)} µs`)

console.log('\nrings on loopback, rows of 4 KiB, relays without their rate limit')
console.log('ring                   plain step  onion step  per hop   plain bulk  onion bulk  ratio')
const perHop: number[] = []
const ratios: number[] = []
for (const shape of ['ccc', 'rccc', 'rcccr']) {
  const rings = [await openBenchRing(shape, { onion: false }), await openBenchRing(shape, { onion: true })]
  const [plain, onion] = await measureRings(rings)
  for (const ring of rings) await ring.close()
  if (plain === undefined || onion === undefined) throw new Error('a ring was not measured')
  perHop.push((onion.stepMs - plain.stepMs) / shape.length)
  ratios.push(onion.bulkMBps / plain.bulkMBps)
  const cells = [
    `${shape.length - 3} relays, 3 hops`.padEnd(23),
    `${plain.stepMs.toFixed(2)} ms`.padEnd(12),
    `${onion.stepMs.toFixed(2)} ms`.padEnd(12),
    `${(perHop.at(-1) ?? 0).toFixed(3)} ms`.padEnd(10),
    `${plain.bulkMBps.toFixed(0)} MB/s`.padEnd(12),
    `${onion.bulkMBps.toFixed(0)} MB/s`.padEnd(12),
    (ratios.at(-1) ?? 0).toFixed(2),
  ]
  console.log(cells.join(''))
}
const BEAT_MS = 50
console.log(`\na token with --cadence ${BEAT_MS}            ${(await cadenceStepMs(BEAT_MS)).toFixed(1)} ms`)
const blankKB = (1_000 / BEAT_MS) * (5 * 1_024 + 46)
console.log(
  `blank frames between, each link    ${(blankKB / 1_000).toFixed(0)} kB/s while an answer comes and 5 s longer`,
)
const worst = { msPerHopToken: Math.max(...perHop), bulkRatio: Math.min(...ratios) }
reportFigures('onion', { ...figures, ...worst }, options)
