/**
 * Peers that keep to no rule, in a process of their own: real libp2p below, anything above. Arguments: the attack and the
 * victim as JSON. Attacks until its stdin ends; then prints how many bytes and attempts it has spent.
 */
import { randomBytes } from 'node:crypto'
import { connect } from 'node:net'
import { setPriority } from 'node:os'
import { identify } from '@libp2p/identify'
import type { Connection, Stream } from '@libp2p/interface'
import { noise } from '@libp2p/noise'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { fromHex } from '../../../src/base/bytes.ts'
import { sealControlLayer } from '../../../src/onion/control.ts'
import { nodeCrypto } from '../../../src/onion/crypto.ts'
import { COMMAND, decodeControl, encodeControl, writeDataHeader } from '../../../src/onion/frames.ts'
import { createClientHandshake } from '../../../src/onion/handshake.ts'
import { encodeClientMessage } from '../../../src/onion/handshake-messages.ts'
import { OP } from '../../../src/onion/ops.ts'
import { createSealer, type Sealer } from '../../../src/onion/ratchet.ts'

const [attack = '', victimText = '{}'] = process.argv.slice(2)
const victim = JSON.parse(victimText) as { addressKey: string; onionKey: string; peerId: string; addrs: string[] }
// The victim and its guest share the machine with us: it is about the victim's work, not about ours.
setPriority(19)

const spent = { bytes: 0, attempts: 0 }
let over = false
process.stdin.resume().once('end', () => {
  over = true
})

const host = await createLibp2p({
  addresses: { listen: [] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux({ maxInboundStreams: 10_000, maxOutboundStreams: 10_000 })],
  services: { identify: identify() },
  connectionManager: { maxConnections: 1_000 },
})
const address = multiaddr(`${victim.addrs[0]}/p2p/${victim.peerId}`)
let connection: Promise<Connection> | undefined

async function open(): Promise<Stream> {
  connection ??= host.dial(address)
  const opened = await connection.catch(() => undefined)
  if (opened?.status !== 'open') {
    connection = undefined
    await pause(50)
    throw new Error('not connected')
  }
  return opened.newStream('/llm/circuit/1', { maxOutboundStreams: 10_000, signal: AbortSignal.timeout(2_000) })
}

function send(stream: Stream, bytes: Uint8Array): boolean {
  spent.bytes += bytes.length
  return stream.send(bytes)
}

const relayCreate = () =>
  createClientHandshake(
    {
      target: { addressKey: fromHex(victim.addressKey), onionKey: fromHex(victim.onionKey) },
      network: 'hostile',
      clientMessage: encodeClientMessage({
        role: 'relay',
        modelId: new Uint8Array(32),
        span: { start: 0, end: 0 },
        maxContext: 0,
        numericsClass: new Uint8Array(32),
        lifetimeS: 3_600,
      }),
    },
    nodeCrypto,
  )
// A CREATE may be sent again and again: it costs the sender nothing and the victim two exchanges each time.
const cheapCreate = encodeControl(COMMAND.create, relayCreate().create)

/** A relay circuit that the victim has accepted; undefined when it refused. */
async function establish(): Promise<{ stream: Stream; forward: Sealer } | undefined> {
  const stream = await open()
  const handshake = relayCreate()
  const created = new Promise<Uint8Array | undefined>((resolve) => {
    const parts: Uint8Array[] = []
    stream.addEventListener('message', ({ data }) => {
      parts.push(data.subarray())
      const bytes = Buffer.concat(parts)
      if (bytes.length >= 1_024) resolve(bytes.subarray(0, 1_024))
    })
    stream.addEventListener('close', () => resolve(undefined))
    setTimeout(() => resolve(undefined), 2_000).unref()
  })
  send(stream, encodeControl(COMMAND.create, handshake.create))
  const frame = await created
  if (frame === undefined) return undefined
  try {
    return { stream, forward: createSealer(handshake.finish(decodeControl(frame)).keys.forward, 'f', nodeCrypto) }
  } catch {
    return undefined
  }
}

const control = (forward: Sealer, op: 8 | 12) =>
  encodeControl(
    COMMAND.control,
    sealControlLayer(forward, 'f', COMMAND.control, { op, inner: randomBytes(op === OP.ping ? 8 : 30) }, nodeCrypto),
  )
const dataHeader = (ctLen: number) => {
  const frame = new Uint8Array(14)
  writeDataHeader(frame, 3, 0)
  new DataView(frame.buffer).setUint32(2, ctLen)
  return frame
}
const turn = () => new Promise<void>((resolve) => setImmediate(resolve))
const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))

/** One attempt each; they are made many at a time, again and again. */
const attacks: Record<string, () => Promise<void>> = {
  async create() {
    const stream = await open()
    send(stream, cheapCreate)
    await turn()
    stream.abort(new Error('enough'))
  },
  async 'half-open'() {
    send(await open(), cheapCreate)
    await pause(50)
  },
  async 'slow-reader'() {
    const circuit = await establish()
    if (circuit === undefined) return pause(20)
    circuit.stream.pause()
    while (!over && circuit.stream.status === 'open') {
      send(circuit.stream, control(circuit.forward, OP.ping))
      await turn()
    }
  },
  async 'slow-writer'() {
    const stream = await open()
    send(stream, cheapCreate.subarray(0, 1_000))
    for (let i = 1_000; i < 1_024 && !over && stream.status === 'open'; i++) {
      send(stream, cheapCreate.subarray(i, i + 1))
      await pause(100)
    }
  },
  async garbage() {
    const stream = await open()
    send(stream, randomBytes(16_384))
    await turn()
    stream.abort(new Error('enough'))
  },
  async 'giant-lengths'() {
    const circuit = await establish()
    const stream = circuit?.stream ?? (await open())
    const lengths = [2 ** 32 - 1, 2 ** 31, 61_441, 0, 15]
    send(stream, dataHeader(lengths[spent.attempts % lengths.length] ?? 0))
    send(stream, randomBytes(4_096))
    await turn()
    stream.abort(new Error('enough'))
  },
  async 'after-destroy'() {
    const circuit = await establish()
    if (circuit === undefined) return pause(20)
    send(circuit.stream, encodeControl(COMMAND.destroy, new Uint8Array(0)))
    for (let i = 0; i < 50 && circuit.stream.status === 'open'; i++) {
      send(circuit.stream, control(circuit.forward, OP.drop))
      send(circuit.stream, Buffer.concat([dataHeader(1_040), randomBytes(1_040)]))
      await turn()
    }
    circuit.stream.abort(new Error('enough'))
  },
  connects: () =>
    new Promise((resolve) => {
      const [, , ip = '', , port = ''] = victim.addrs[0]?.split('/') ?? []
      const socket = connect(Number(port), ip, () => {
        // Half of them begin a handshake.
        if (spent.attempts % 2 === 0) {
          const hello = Buffer.from('\x13/multistream/1.0.0\n')
          spent.bytes += hello.length
          socket.write(hello)
        }
        socket.resetAndDestroy()
        resolve()
      })
      // SYN, SYN-ACK, ACK, RST, as they are on the wire.
      spent.bytes += 4 * 54
      socket.on('error', () => resolve())
    }),
}

const one = attacks[attack]
if (one === undefined) throw new Error(`no attack ${attack}`)
const WORKERS = 24
process.stdout.write('ready\n')
await Promise.all(
  Array.from({ length: WORKERS }, async () => {
    while (!over) {
      try {
        await one()
        spent.attempts++
      } catch {
        // Refused at some level: the next one.
        await pause(5)
      }
    }
  }),
)
process.stdout.write(`${JSON.stringify(spent)}\n`)
await host.stop()
process.exit(0)
