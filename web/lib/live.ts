import { batch, computed, signal } from '@preact/signals'
import { getJson } from './api.ts'
import type {
  ContactsBody,
  CoverageModel,
  DemoBody,
  GenerationBody,
  NodeEvent,
  PeerBody,
  SessionBody,
  StatusBody,
} from './bodies.ts'
import { follow } from './follow.ts'
import { shortAddress } from './format.ts'

/** What the node says of itself and of the swarm, as it is now. */
export const status = signal<StatusBody | null>(null)
export const peers = signal<ReadonlyMap<string, PeerBody>>(new Map())
export const coverage = signal<readonly CoverageModel[]>([])
export const sessions = signal<readonly SessionBody[]>([])
/** Newest first. */
export const generations = signal<readonly GenerationBody[]>([])
export const petnames = signal<ReadonlyMap<string, string>>(new Map())
/** Of `demo --web`; null on a node. */
export const demo = signal<DemoBody | null>(null)
/** Tokens per second of all answers under way, one number a second. */
export const speeds = signal<readonly number[]>([])

export const running = computed(() =>
  generations.value.filter(({ state }) => ['starting', 'running', 'suspended'].includes(state)),
)

/** How people call a peer: its petname, "this node", or the beginning of its address. */
export function nameOf(address: string | null): string {
  if (address === null || address === status.value?.address) return 'this node'
  const node = demo.value?.nodes.find((each) => each.address === address)
  return petnames.value.get(address) ?? node?.name ?? shortAddress(address)
}

const KEPT_GENERATIONS = 32
const KEPT_SPEEDS = 60
const STATUS_MS = 5_000
const SOON_MS = 200

let waiting: NodeEvent[] = []

/** Events that come together are shown together, once a frame at most. */
function apply(type: string, data: unknown): void {
  if (waiting.length === 0) setTimeout(applyWaiting, document.hidden ? 1_000 : 50)
  waiting.push({ type, data } as NodeEvent)
}

function applyWaiting(): void {
  const events = waiting
  waiting = []
  batch(() => {
    let nextPeers: Map<string, PeerBody> | undefined
    for (const event of events) {
      if (event.type === 'peer' || event.type === 'peer-left') {
        nextPeers ??= new Map(peers.value)
        if (event.type === 'peer') nextPeers.set(event.data.address, event.data)
        else nextPeers.delete(event.data.address)
      } else if (event.type === 'coverage') coverage.value = withModel(coverage.value, event.data)
      else if (event.type === 'sessions') sessions.value = event.data.sessions
      else if (event.type === 'generation') generations.value = withGeneration(generations.value, event.data)
      else if (event.type === 'demo') demo.value = event.data
    }
    if (nextPeers !== undefined) peers.value = nextPeers
  })
  if (events.some(({ type }) => type !== 'generation')) refreshSoon()
}

function withModel(models: readonly CoverageModel[], model: CoverageModel): readonly CoverageModel[] {
  const isSame = (each: CoverageModel) => each.modelId === model.modelId && each.recipe === model.recipe
  return models.some(isSame) ? models.map((each) => (isSame(each) ? model : each)) : [...models, model]
}

function withGeneration(list: readonly GenerationBody[], next: GenerationBody): readonly GenerationBody[] {
  if (list.some(({ id }) => id === next.id)) return list.map((each) => (each.id === next.id ? next : each))
  return [next, ...list].slice(0, KEPT_GENERATIONS)
}

let withDemo = false

async function load(): Promise<void> {
  const [nowStatus, nowPeers, nowCoverage, nowSessions, nowGenerations] = await Promise.all([
    getJson<StatusBody>('/api/status'),
    getJson<{ peers: PeerBody[] }>('/api/peers'),
    getJson<{ models: CoverageModel[] }>('/api/coverage'),
    getJson<{ sessions: SessionBody[] }>('/api/sessions'),
    getJson<{ generations: GenerationBody[] }>('/api/generations'),
  ])
  batch(() => {
    status.value = nowStatus
    peers.value = new Map(nowPeers.peers.map((peer) => [peer.address, peer]))
    coverage.value = nowCoverage.models
    sessions.value = nowSessions.sessions
    generations.value = nowGenerations.generations
  })
  await loadPetnames()
  if (withDemo) demo.value = await getJson<DemoBody>('/api/demo')
}

export async function loadPetnames(): Promise<void> {
  const { contacts } = await getJson<ContactsBody>('/api/contacts').catch(() => ({ contacts: [] }))
  petnames.value = new Map(contacts.map(({ address, petname }) => [address, petname]))
}

async function refresh(): Promise<void> {
  status.value = await getJson<StatusBody>('/api/status').catch(() => status.value)
}

let soon: ReturnType<typeof setTimeout> | undefined
function refreshSoon(): void {
  if (soon !== undefined) return
  soon = setTimeout(() => {
    soon = undefined
    void refresh()
  }, SOON_MS)
}

/** Called once, with a token at hand. */
export function startLive({ isDemo }: { isDemo: boolean }): void {
  withDemo = isDemo
  void follow({ load, apply })
  setInterval(() => {
    if (!document.hidden) void refresh()
  }, STATUS_MS)
  setInterval(() => {
    const now = running.value.reduce((sum, { tokensPerSecond }) => sum + (tokensPerSecond ?? 0), 0)
    if (now === 0 && speeds.value.every((speed) => speed === 0)) return
    speeds.value = [...speeds.value, now].slice(-KEPT_SPEEDS)
  }, 1_000)
}
