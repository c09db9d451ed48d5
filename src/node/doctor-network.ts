import { createSocket } from 'node:dgram'
import { connect } from 'node:net'
import { join } from 'node:path'
import type { CoverageBody, PeerBody, StatusBody } from '../api/types.ts'
import { formatSpan } from '../base/span.ts'
import { findAdmin } from './admin-client.ts'
import { type Check, type DoctorContext, type Finding, fail, ok, skip, warn } from './doctor.ts'
import { readIfPresent } from './home.ts'
import { isFree } from './listen.ts'
import { readRunFile } from './run-file.ts'

/** What the checks of the network need from outside. */
export interface NetworkDeps {
  nowMs(): number
  /** Sends one packet to the multicast group of mDNS and waits for it to come back; throws when it does not. */
  multicast(signal: AbortSignal): Promise<void>
  fetch: typeof fetch
}

const defaultPort = 5561
const mdnsGroup = '224.0.0.251'
/** Records of peers with more than that are refused (p2pLimits.clockSkewMs); say it before. */
const skewMs = 120_000

export function networkChecks(deps: NetworkDeps): readonly Check[] {
  return [
    { name: 'node', run: checkRunning },
    { name: 'port', run: checkPort },
    { name: 'local network', run: (context) => checkMulticast(context, deps) },
    { name: 'bootstrap', run: checkBootstrap },
    { name: 'clock', run: (context) => checkClock(context, deps) },
    { name: 'reachability', run: checkReachability },
    { name: 'peers', run: checkPeers },
    { name: 'coverage', run: checkCoverage },
  ]
}

async function checkRunning({ home }: DoctorContext): Promise<Finding> {
  const admin = await findAdmin(home)
  if (admin !== undefined) {
    await admin.get('/api/health')
    return ok(`A node runs on this home (process ${admin.state.pid}) and answers.`)
  }
  const left = await readIfPresent(home.runFile)
  return left === undefined
    ? skip('No node runs on this home.')
    : warn(
        'The last node of this home ended without stopping.',
        'Start it again with llm-node start; its log may say why: llm-node logs',
      )
}

async function checkPort({ home, config }: DoctorContext): Promise<Finding> {
  if ((await readRunFile(home)) !== undefined) return ok('This home’s own node listens.')
  const { host = '0.0.0.0', port = null } = config?.network ?? {}
  const wanted = port ?? defaultPort
  if (wanted === 0 || (await isFree(host, wanted)))
    return ok(wanted === 0 ? 'Any free port.' : `Port ${wanted} is free.`)
  return port === null
    ? warn(
        `Port ${wanted} is in use; any free one is taken instead.`,
        `Forwarding a port needs a fixed one: llm-node config set network.port ${wanted + 1}`,
      )
    : fail(
        `Port ${wanted} is in use by another program.`,
        `Choose another: llm-node config set network.port ${wanted + 1}`,
      )
}

async function checkMulticast({ config, signal }: DoctorContext, deps: NetworkDeps): Promise<Finding> {
  if (config?.network.mdns === false) return skip('Switched off (network.mdns is false).')
  try {
    await deps.multicast(signal)
    return ok('Multicast works: nodes on this network can find each other.')
  } catch (error) {
    return warn(
      `Multicast does not work (${(error as Error).message}), so nodes on the local network do not find each other.`,
      'Allow UDP port 5353 in the firewall, or give an address: llm-node start --bootstrap ADDRESS',
    )
  }
}

/** Joins the group, sends a packet of its own to it and waits to hear it. */
export function tryMulticast(signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = createSocket({ type: 'udp4', reuseAddr: true })
    const token = `llm-node ${process.pid} ${Math.random()}`
    const timer = setTimeout(() => end(new Error('nothing came back')), 2_000)
    let ended = false
    const end = (error?: Error) => {
      if (ended) return
      ended = true
      clearTimeout(timer)
      socket.close()
      if (error === undefined) resolve()
      else reject(error)
    }
    signal.addEventListener('abort', () => end(new Error('no time was left')), { once: true })
    socket.once('error', (error) => end(error))
    socket.on('message', (message) => {
      if (message.toString() === token) end()
    })
    // A port of its own: packets that are no DNS do not belong on 5353.
    socket.bind(0, () => {
      try {
        socket.addMembership(mdnsGroup)
        socket.setMulticastLoopback(true)
        socket.setMulticastTTL(0)
        socket.send(token, socket.address().port, mdnsGroup, (error) => {
          if (error !== null) end(error)
        })
      } catch (error) {
        end(error as Error)
      }
    })
  })
}

async function checkBootstrap({ config, signal }: DoctorContext): Promise<Finding> {
  const addresses = config?.network.bootstrap ?? []
  if (addresses.length === 0) return skip('No bootstrap address is configured; nodes are found on the local network.')
  const reached = await Promise.all(addresses.map((address) => reaches(address, signal)))
  const dead = addresses.filter((_, i) => reached[i] === false)
  if (dead.length === 0) return ok(`${addresses.length} of ${addresses.length} bootstrap addresses answer.`)
  const finding = `${dead.length} of ${addresses.length} bootstrap addresses do not answer: ${dead.join(', ')}.`
  const fix =
    'Check the connection, or ask for a current address: llm-node config set network.bootstrap \'["ADDRESS"]\''
  return dead.length === addresses.length ? fail(finding, fix) : warn(finding, fix)
}

/** Null: an address that only a node can try (QUIC, relays). */
function reaches(address: string, signal: AbortSignal): Promise<boolean | null> {
  const [, , host, transport, port] = address.split('/')
  if (transport !== 'tcp' || host === undefined) return Promise.resolve(null)
  return new Promise((resolve) => {
    const socket = connect({ host, port: Number(port), timeout: 2_500 })
    const end = (answer: boolean) => {
      socket.destroy()
      resolve(answer)
    }
    socket.once('connect', () => end(true))
    socket.once('error', () => end(false))
    socket.once('timeout', () => end(false))
    signal.addEventListener('abort', () => end(false), { once: true })
  })
}

async function checkClock(context: DoctorContext, deps: NetworkDeps): Promise<Finding> {
  const { home } = context
  const nowMs = deps.nowMs()
  const fix = 'Set this machine’s clock, best by itself: timedatectl set-ntp true'
  // Numbers of records begin at the time of their making: one in the future means that the clock has gone back.
  const text = await readIfPresent(join(home.dataFolder, 'advert-sequence.json'))
  const usedMs = Number(/\d{12,16}/.exec(text ?? '')?.[0] ?? 0)
  if (usedMs - nowMs > skewMs) {
    return fail(`The clock says ${iso(nowMs)}, but this node has already seen ${iso(usedMs)}.`, fix)
  }
  const away = await skewOfServers(context, deps, nowMs)
  if (away === undefined) return ok(`${iso(nowMs)}; nobody was asked.`)
  const { host, skew } = away
  if (Math.abs(skew) <= skewMs) return ok(`Within ${Math.ceil(Math.abs(skew) / 1000)} s of ${host}.`)
  const direction = skew > 0 ? 'behind' : 'ahead of'
  return fail(
    `The clock is ${Math.round(Math.abs(skew) / 60_000)} min ${direction} that of ${host}; peers refuse records that far off.`,
    fix,
  )
}

/** Servers of models say the time in every answer. Positive: this clock is behind. */
async function skewOfServers(
  { config, signal }: DoctorContext,
  deps: NetworkDeps,
  nowMs: number,
): Promise<{ host: string; skew: number } | undefined> {
  for (const { source } of config?.models ?? []) {
    if (!/^https?:\/\//.test(source)) continue
    const response = await deps.fetch(source, { method: 'HEAD', signal }).catch(() => undefined)
    const dateMs = Date.parse(response?.headers.get('date') ?? '')
    if (Number.isFinite(dateMs)) return { host: new URL(source).host, skew: dateMs - nowMs }
  }
  return undefined
}

function iso(ms: number): string {
  return new Date(ms).toISOString().slice(0, 16).replace('T', ' ')
}

async function checkReachability({ home }: DoctorContext): Promise<Finding> {
  const admin = await findAdmin(home)
  if (admin === undefined) return skip('No node runs on this home; llm-node netcheck finds out.')
  const { word, ok: fine, reason, next } = (await admin.get<StatusBody>('/api/status')).reachability
  return fine ? ok(`${word}: ${reason}`) : warn(`${word}: ${reason}`, next ?? 'llm-node netcheck says more.')
}

async function checkPeers({ home }: DoctorContext): Promise<Finding> {
  const admin = await findAdmin(home)
  if (admin === undefined) return skip('No node runs on this home.')
  const { peers } = await admin.get<{ peers: PeerBody[] }>('/api/peers')
  const connected = peers.filter((peer) => peer.connected).length
  if (connected > 0) return ok(`${connected} of ${peers.length} known peers are connected.`)
  return warn(
    'No peer is connected.',
    'Nodes on one local network meet by themselves; elsewhere: llm-node start --bootstrap ADDRESS',
  )
}

async function checkCoverage({ home }: DoctorContext): Promise<Finding> {
  const admin = await findAdmin(home)
  if (admin === undefined) return skip('No node runs on this home.')
  const { models } = await admin.get<CoverageBody>('/api/coverage')
  for (const model of models) {
    if (model.complete) continue
    const gaps = model.gaps.map(formatSpan)
    return warn(
      `Layers ${gaps.join(', ')} of ${model.name ?? model.modelId.slice(0, 12)} are held by nobody.`,
      `You could hold them: llm-node setup --layers ${gaps[0] ?? ''}`,
    )
  }
  return ok(
    models.length === 0
      ? 'No model is known here yet.'
      : `Every layer of ${models.length === 1 ? 'the model' : `${models.length} models`} is held.`,
  )
}
