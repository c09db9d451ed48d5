import type { EventLog } from '../api/event-log.ts'
import type { Config } from '../base/config.ts'
import type { SwarmView } from '../coverage/announce.ts'
import type { PeerScores } from '../coverage/peer-scores.ts'
import type { OnionService } from '../onion/service.ts'
import type { Identity } from '../p2p/identity.ts'
import type { PeerNode } from '../p2p/peer-node.ts'
import type { AuditBook } from '../pipeline/audit-book.ts'
import type { ChatProfiles } from '../pipeline/chat-profiles.ts'
import type { Exclusions } from '../pipeline/exclusions.ts'
import type { Experience } from '../pipeline/experience.ts'
import type { HopServer } from '../pipeline/hop-server.ts'
import type { IdleChains } from '../pipeline/idle-chains.ts'
import type { Generations } from './generations.ts'
import type { LoadedModel } from './load-model.ts'
import type { ResolvedNetwork } from './networks.ts'
import type { NodePrivacy } from './privacy.ts'
import type { Transcripts } from './transcripts.ts'

/** What the parts of a running node share. */
export interface NodeParts {
  readonly config: Config
  readonly network: ResolvedNetwork
  readonly identity: Identity
  readonly peer: PeerNode
  readonly onion: OnionService
  readonly hops: HopServer
  readonly swarm: SwarmView
  readonly models: LoadedModel[]
  readonly events: EventLog
  readonly generations: Generations
  /** What failed lately, and the chains of chats that may go on: of all answers for which this node is the entry. */
  readonly exclusions: Exclusions
  readonly idle: IdleChains
  /** What this node has seen of its peers itself. */
  readonly scores: PeerScores
  readonly chats: ChatProfiles
  /** Who was audited, and who lied. */
  readonly audits: AuditBook
  readonly experience: Experience
  /** Answers that may go on after a restart. */
  readonly transcripts: Transcripts
  /** Guards, and whose the peers are. */
  readonly privacy: NodePrivacy
  readonly startedMs: number
  readonly guest: boolean
}

/** Where others can dial this node: multiaddrs with /p2p/PEERID. */
export function listeningOf({ peer }: NodeParts): string[] {
  return peer.self.addrs().map((addr) => `${addr}/p2p/${peer.self.peerId}`)
}
