/** One generation and the sessions of a hop (src/pipeline). */
export const pipelineLimits = {
  /** Below this share of free KV no neighbour may hold more than half (protocol.md §7). */
  kvShortShare: 0.25,
  /** Rows of one prefill frame: a long prompt delays other sessions by at most one such frame (engine.md §8). */
  prefillRows: 128,
  /** Prefill frames sent ahead of their answers: enough to keep 8 hops busy; the ring bounds the bytes. */
  prefillFramesUnderWay: 12,
  /** Rows guessed ahead in one step: with the row of the last token the 8 that count as a decode step (protocol.md §6). */
  draftRows: 7,
  /** Frames of at most this many rows are decode steps: a token and the draft after it. */
  decodeRows: 8,
  /** Routes that are tried, and the time that it may take, before an interruption ends the answer. */
  routesTried: 5,
  recoverMs: 60_000,
  /** How long nobody may hold a layer after a failure before the answer ends with that. */
  gapGraceMs: 2_000,
  /** How long a suspended answer waits for somebody who holds the missing layers, and its transcript is kept. */
  suspendMs: 24 * 3_600_000,
  /** Transcripts kept for after a restart, and the bytes of one: a prompt of 1 MiB, and 1 MiB of ids. */
  transcripts: 64,
  transcriptBytes: 32 * 1_048_576,
  /** How long a node that stops lets running answers finish or move: an answer of 512 tokens at 10 a second. */
  leaveMs: 60_000,
  /** A session that has rested longer belongs to a chat whose user reads, or is a spare one: nobody waits for it. */
  quietMs: 2_000,
  /** Rows of one answer that are kept for an audit, and the time that an audit may take. */
  auditBytes: 64 * 1_048_576,
  auditMs: 60_000,
  /** Circuits tried for it: hops come and go. */
  auditAttempts: 3,
  /** How many times as long as it should one of them may take to build. */
  auditPatience: 3,
  /** Tokens computed one by one when it is looked for who lied: enough for a lie that only steps show. */
  auditSteps: 8,
  /** A peer is new until it has passed so many audits; peers, and pieces of evidence, that are remembered. */
  auditsOfNew: 5,
  auditedPeers: 4_096,
  auditEvidence: 256,
  /** How long nothing is sent to one who lied: hardware that was broken may be mended. */
  liarMs: 30 * 86_400_000,
  /** How far a row may be from that of another numerics class (tests/long/audits.test.ts). */
  auditTolerance: 0.02,
  /** How often it looks for itself whether somebody is back, and how long it tries a way that failed before. */
  suspendedLookMs: 2_000,
  suspendedTryMs: 5_000,
  /** How often an answer looks whether a hop leaves or a spare circuit is due, and how soon it tries again. */
  standbyLookMs: 250,
  standbyRetryMs: 1_000,
  /** An answer that lasts longer gets a spare circuit: a shorter one is soon asked again. */
  spareAfterMs: 1_000,
  /** How long one that is being built is waited for when it is needed. */
  spareWaitMs: 500,
  /** A spare circuit reserves KV that it may never use: only where so many sessions would fit. */
  spareRoom: 4,
  /** Building a circuit may take so much longer than its links do, a step than is expected, before another one is begun beside. */
  lateToOpenMs: 1_000,
  lateToAnswerMs: 3_000,
  /** What a row of a prompt costs of a token's time, where only that is known (engine.md §3). */
  prefillRowShare: 0.25,
  /** No step is called slow below this. */
  hedgeLeastMs: 100,
  /** Share of a circuit's life after which a generation moves to a new one (protocol.md §4: at 55 of 60 min). */
  lifeShare: 55 / 60,
  /** Chains kept for the next turn of their chats, and the tokens of KV that they may reserve on every hop in all. */
  idleChains: 4,
  idleTokens: 32_768,
  /** How long one is kept: less than a hop keeps a circuit without frames (onionLimits.idleS). */
  idleChainMs: 540_000,
  /** Tokens reserved for a chat that may go on, where there is plenty of room. */
  chatContext: 4_096,
  /** How long a link or a peer is left out after its first failure; twice as long each time (protocol.md §6). */
  excludeMs: 15_000,
  /** Links, and as many peers, that are remembered as failed: ~200 B each. */
  exclusions: 1_024,
  /** Prompt and answer of one request, before tokenising: a 1 MiB prompt is far beyond every supported context. */
  promptBytes: 1_048_576,
  /** Stop strings of one request; OpenAI allows 4, more costs nothing but must end somewhere. */
  stopStrings: 16,
  /** Length of one: what a stream may have to hold back. */
  stopCharacters: 1_024,
} as const
