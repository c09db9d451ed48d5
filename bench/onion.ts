/**
 * The onion layer without links, on one core: what sealing and opening data costs, what a hop adds to one decode row
 * (open its frame, seal the next), a relay's layer, and a handshake. bench/hop.ts measures the whole way.
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
import { benchOptions, median, reportFigures } from './lib/harness.ts'

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

const sealOpenMBps = bulkMBps(512, options.quick ? 20 : 60)
const decodeMBps = bulkMBps(1, 4_000)
const decodeFrameUs = 4_096 / decodeMBps
const figures = { sealOpenMBps, decodeFrameUs, relayLayerUs: relayUs(), handshakeUs: handshakeUs() }
console.log(`seal and open, frames of 2 MiB     ${sealOpenMBps.toFixed(0)} MB/s of rows`)
console.log(`seal and open, one row of 4 KiB    ${decodeFrameUs.toFixed(1)} µs (${decodeMBps.toFixed(0)} MB/s)`)
console.log(`a relay's layer on such a frame    ${figures.relayLayerUs.toFixed(1)} µs`)
console.log(`a handshake, both sides            ${figures.handshakeUs.toFixed(0)} µs`)
reportFigures('onion', figures, options)
