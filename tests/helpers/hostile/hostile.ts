/** A victim, its honest guest and an attacker, each in a process of its own; who waits for whom is measured in slices. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { fromHex } from '../../../src/base/bytes.ts'
import { systemClock } from '../../../src/base/clock.ts'
import { silentLogger } from '../../../src/base/logger.ts'
import type { Ring } from '../../../src/onion/ring.ts'
import { createOnionService } from '../../../src/onion/service.ts'
import { loadOrCreateIdentity } from '../../../src/p2p/identity.ts'
import { createPeerNode } from '../../../src/p2p/peer-node.ts'

export const ATTACKS = [
  'create',
  'half-open',
  'slow-reader',
  'slow-writer',
  'garbage',
  'giant-lengths',
  'after-destroy',
  'connects',
] as const
export type AttackName = (typeof ATTACKS)[number]

interface VictimFacts {
  readonly addressKey: string
  readonly onionKey: string
  readonly modelId: string
  readonly numericsClass: string
  readonly hiddenSize: number
  readonly peerId: string
  readonly addrs: string[]
}

export interface VictimState {
  /** Heap and buffers after a collection. */
  readonly bytes: number
  readonly relayCircuits: number
  readonly computeCircuits: number
  readonly halfOpenCircuits: number
  readonly queuedBytes: number
  readonly sessions: number
}

export interface AttackReport {
  readonly attack: AttackName
  readonly bytes: number
  readonly attempts: number
  /** Steps of the honest session a second, without and with the attack, in turns. */
  readonly quiet: number
  readonly attacked: number
  /** Of the victim's memory, at the end of the attack with everything still open. */
  readonly grownBytes: number
}

export interface HostileScene {
  state(): Promise<VictimState>
  /** Attacks in slices of `sliceMs`, while the honest session goes on; throws when one of its rows is not what it was. */
  attack(name: AttackName, slices: number, sliceMs: number): Promise<AttackReport>
  /** A new session, as somebody who has not been there before. */
  openAnother(): Promise<void>
  close(): Promise<void>
}

const CONTEXT = 64

export async function createHostileScene(): Promise<HostileScene> {
  const folder = await mkdtemp(join(tmpdir(), 'llm-node-hostile-'))
  const victim = start('victim.process.ts', [], ['--expose-gc'])
  const facts = JSON.parse(await victim.line()) as VictimFacts
  const guest = await createGuest(join(folder, 'guest'), facts)
  const state = async () => {
    victim.child.stdin?.write('\n')
    return JSON.parse(await victim.line()) as VictimState
  }
  /** What is held: the least of half a second, since frames on their way come and go, and no single collection finds it all. */
  const held = async () => {
    let least = Number.POSITIVE_INFINITY
    for (let sample = 0; sample < 5; sample++) {
      least = Math.min(least, (await state()).bytes)
      await delay(100)
    }
    return least
  }
  const ring = await guest.open()
  const check = createChecker(ring, facts.hiddenSize)
  await check.forMs(500)

  return {
    state,
    async attack(attack, slices, sliceMs) {
      const before = await state()
      const attacker = start('attacker.process.ts', [attack, JSON.stringify(facts)], [])
      await attacker.line()
      const steps = { quiet: 0, attacked: 0 }
      const ms = { quiet: 0, attacked: 0 }
      for (let slice = 0; slice < slices; slice++) {
        const kind = slice % 2 === 0 ? 'attacked' : 'quiet'
        attacker.child.kill(kind === 'quiet' ? 'SIGSTOP' : 'SIGCONT')
        // What the attacker has sent is still to be worked off.
        await check.forMs(30)
        const run = await check.forMs(sliceMs)
        steps[kind] += run.steps
        ms[kind] += run.ms
      }
      attacker.child.kill('SIGCONT')
      const heldBytes = await held()
      attacker.child.stdin?.end()
      const spent = JSON.parse(await attacker.line()) as { bytes: number; attempts: number }
      await attacker.ended
      return {
        attack,
        ...spent,
        quiet: (1_000 * steps.quiet) / ms.quiet,
        attacked: (1_000 * steps.attacked) / ms.attacked,
        grownBytes: heldBytes - before.bytes,
      }
    },
    async openAnother() {
      const other = await createGuest(join(folder, `guest-${Math.random()}`), facts)
      try {
        // New connections from one address have a rate, and the attacker's was this one.
        const ring = await other.open().catch(() => delay(1_500).then(other.open))
        await createChecker(ring, facts.hiddenSize, check.expected).forMs(50)
      } finally {
        await other.stop()
      }
    },
    async close() {
      await guest.stop()
      victim.child.stdin?.end()
      await victim.ended
      await rm(folder, { recursive: true, force: true })
    },
  }
}

/** Steps over one short text, again from its start; every row must be what it was the first time. */
function createChecker(ring: Ring, hiddenSize: number, expected: Float32Array[] = []) {
  let pos = 0
  const rowAt = (at: number) => Float32Array.from({ length: hiddenSize }, (_, i) => Math.sin(at * 7.3 + i * 0.61))
  return {
    expected,
    async forMs(limitMs: number) {
      const startedMs = performance.now()
      let steps = 0
      for (; performance.now() - startedMs < limitMs; steps++) {
        const { hidden } = await ring.forward({ pos, hidden: rowAt(pos), want: 1 })
        const known = expected[pos]
        if (known === undefined) expected[pos] = hidden
        else if (Buffer.compare(Buffer.from(known.buffer), Buffer.from(hidden.buffer)) !== 0) {
          throw new Error(`row ${pos} is not what it was`)
        }
        pos = (pos + 1) % CONTEXT
      }
      return { steps, ms: performance.now() - startedMs }
    },
  }
}

async function createGuest(folder: string, facts: VictimFacts) {
  const identity = await loadOrCreateIdentity(folder, { nowMs: Date.now() })
  const peer = await createPeerNode(
    { network: 'hostile', version: '0', listen: ['/ip4/127.0.0.1/tcp/0'], mdns: false, transports: ['tcp'] },
    { identity, logger: silentLogger },
  )
  const onion = createOnionService(
    { identity, network: 'hostile', relay: () => false, lan: true, published: () => false },
    { transport: peer, compute: null, clock: systemClock, logger: silentLogger },
  )
  await peer.start()
  return {
    open: () =>
      onion.openRing(
        {
          hops: [
            {
              role: 'compute',
              span: { start: 0, end: 4 },
              addressKey: fromHex(facts.addressKey),
              onionKey: fromHex(facts.onionKey),
              peerId: facts.peerId,
              addrs: facts.addrs,
            },
          ],
          modelId: fromHex(facts.modelId),
          numericsClass: fromHex(facts.numericsClass),
          hiddenSize: facts.hiddenSize,
          maxContext: CONTEXT,
        },
        { signal: AbortSignal.timeout(20_000) },
      ),
    async stop() {
      await onion.stop()
      await peer.stop()
    },
  }
}

function start(program: string, args: readonly string[], nodeArgs: readonly string[]) {
  const path = fileURLToPath(new URL(program, import.meta.url))
  const child: ChildProcess = spawn(process.execPath, [...nodeArgs, path, ...args], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]()
  return {
    child,
    ended: new Promise<void>((resolve) => child.once('close', () => resolve())),
    async line(): Promise<string> {
      const { value, done } = await lines.next()
      if (done === true) throw new Error(`${program} ended`)
      return value
    },
  }
}
