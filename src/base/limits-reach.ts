/**
 * Reaching nodes that nobody can dial through those that can be (circuit relay v2; src/p2p/relay-*.ts). libp2p's own
 * limits, 128 KiB and 2 min a connection, would end a pipeline after some 16 tokens.
 */
export const relayLimits = {
  /** Relays on which one node reserves a place: one of them may go. */
  wanted: 2,
  /** Addresses taken over from one relay: TCP and QUIC of one place. */
  addressesPerRelay: 2,
  /** How long a place lasts; the node asks again 5 min before its end (libp2p's reservation store). */
  reservationMs: 30 * 60_000,
  /** One relayed connection: longer than a circuit lives (onionLimits.lifeS). */
  connectionMs: 2 * 3_600_000,
  /** Both directions: a million tokens of a 2 KiB hidden state; then the pipeline goes on over a new one. */
  connectionBytes: 4 * 2 ** 30,
  /** One request to a relay. */
  hopMs: 10_000,
  /** After a refusal the relay is asked again, the first time after this, then after twice as long each time. */
  retryFirstMs: 5_000,
  retryMaxMs: 300_000,
  /** Relayed connections to one node at once. */
  perTarget: 64,
  /** What a node forwards that others can dial: at worst 16 x 2 windows of 8 MiB wait in its memory. */
  node: { reservations: 16, connections: 16, perPeer: 4 },
  /** What a bootstrap node forwards; others take over what it refuses. */
  bootstrap: { reservations: 1_024, connections: 128, perPeer: 16 },
} as const

/** TCP and QUIC to one peer (src/p2p/links.ts). */
export const linkLimits = {
  /** The first comparison comes when a connection has lasted that long: a command of a second needs none. */
  compareAfterMs: 3_000,
  compareEveryMs: 600_000,
  /** Round trips over each; links that are compared at the same time. */
  compareRounds: 8,
  comparing: 2,
  /** No answer for that long counts as lost. */
  tripMs: 1_500,
  /** A link must answer within that when another one to the same peer has ended: less than a gap may last. */
  proveMs: 1_000,
  /** How long a choice holds, and for how many peers: ~100 B each. */
  choiceMs: 3_600_000,
  choices: 1_024,
  /** Second connections are looked at this often, and live at least so long. */
  tidyMs: 5_000,
  keepSecondMs: 8_000,
} as const

/** Finding out whether others can dial this node (src/p2p/reachability.ts). */
export const reachabilityLimits = {
  /** Looked at after each change, and this often. */
  everyMs: 5_000,
  /** Nobody was met outside for that long after the start: there is no outside. */
  aloneMs: 10_000,
  /** Time that somebody outside has to dial back (AutoNAT) before the answer counts as no. */
  provenMs: 15_000,
  /** Nobody has dialled it so far: somebody is asked again, soon (a router may take a while), then this often. */
  askAgainFirstMs: 10_000,
  askAgainMs: 60_000,
  /** Foreign addresses under which others see this node, tried with its own port: for ports forwarded by hand. */
  guesses: 2,
} as const
