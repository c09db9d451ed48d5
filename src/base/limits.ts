export { pipelineLimits } from './pipeline-limits.ts'

/** The HTTP API (src/api). */
export const apiLimits = {
  /** interface.md §3: a 4 MiB body holds every prompt that a supported context can take. */
  bodyBytes: 4 * 1_048_576,
  /** Token ids in one prompt; a 4 MiB body has room for no more. */
  promptIds: 2_097_152,
  /** Texts in one embeddings request, as OpenAI allows. */
  embeddings: 2_048,
  /** Generations and embeddings under way at once, as entry; the rings of one node have the same bound. */
  underWay: 64,
  /** A client that does not read its stream for so long loses it: its KV is held all that time. */
  unreadMs: 60_000,
  /** Lines of a stream, one a token, that are made while the one before is being sent. */
  linesAhead: 32,
  /** Header lines and bytes of one request; clients send about 20 and 1 KiB. */
  headerLines: 100,
  headerBytes: 16_384,
  /** All headers, and the whole request with its body, in milliseconds. */
  headersMs: 10_000,
  requestMs: 60_000,
  /** Connections at once: 1,000 idle event streams and some more. */
  connections: 2_048,
  /** API keys in one home, and characters of a key's name. */
  keys: 256,
  keyNameCharacters: 64,
  /** Event streams at once, events kept for those that come back, and their bytes. */
  eventStreams: 1_024,
  events: 2_048,
  eventBytes: 4 * 1_048_576,
  /** Events that wait for one slow reader before it is told to begin again. */
  eventsWaiting: 512,
  /** A comment on a silent event stream, so that nobody in between closes it (interface.md §3). */
  keepAliveMs: 15_000,
  /** Changes of one kind are told together after this. */
  eventDelayMs: 250,
} as const

/** What a config.json may claim (src/model): larger than any published model, small enough that a lie costs nothing. */
export const modelLimits = {
  nLayers: 1_024,
  hiddenSize: 65_536,
  /** Heads × head size, and the MLP's width. */
  width: 1_048_576,
  vocabSize: 4_194_304,
  maxContext: 16_777_216,
} as const

/** Fetching weights (src/shard: source, download). */
export const downloadLimits = {
  /** The safetensors format's own limit of a header. */
  headerBytes: 100_000_000,
  /** Weight files of one repository: Llama 405B has 191. */
  weightFiles: 1_000,
  /** config.json and generation_config.json: a few KB in every published model. */
  configBytes: 1_048_576,
  /** model.safetensors.index.json: about 100 bytes per tensor. */
  indexBytes: 67_108_864,
  /** tokenizer.json: 33 MB is the largest seen. */
  tokenizerBytes: 134_217_728,
  /** GETs under way at once (engine.md §2). */
  parallelGets: 4,
  /** One ranged GET: large enough that the request costs nothing, small enough that a slow one delays no layer long. */
  pieceBytes: 33_554_432,
  /** What a kill may lose of a piece: bytes between two entries of the journal. */
  chunkBytes: 4_194_304,
  /** Neighbouring ranges this close are fetched as one: about what a request's own headers cost. */
  gapBytes: 4_096,
  /** Bytes of gaps per byte wanted, at most: keeps a download under 1.05 × tensors and headers. */
  gapShare: 0.02,
  /** Bytes thrown away per range at most when a server answers 200 with the whole file instead of 206. */
  skipBytes: 268_435_456,
  /** Attempts in a row that bring no new byte. */
  attempts: 6,
  /** Longest wait that a Retry-After may ask for. */
  retryAfterMs: 120_000,
  /** First wait after a failure without Retry-After; doubles with each. */
  backoffMs: 500,
  /** No byte for this long: the request is given up and tried again. */
  stallMs: 30_000,
  redirects: 5,
  /** A file that changes under the download more often than this is not a published model. */
  restarts: 3,
  /** Rows of the head are converted in blocks of at most this many f32 bytes (engine.md §3). */
  headBlockBytes: 67_108_864,
  /** Kept free on the disk beyond what the download needs. */
  diskSpareBytes: 67_108_864,
} as const

/** Transport, records and addresses (src/p2p). */
export const p2pLimits = {
  /** scrypt: below the floor a password is guessed cheaply, above the ceiling a file could fill the memory (128·N·r B). */
  scryptMinN: 2 ** 15,
  scryptN: 2 ** 17,
  scryptMaxN: 2 ** 19,
  /** A password protects against somebody who has the file and time. */
  passwordCharacters: 8,
  /** An exported identity is below 1 KiB. */
  exportBytes: 16_384,
  /** An `llm://` text: 60 characters of address and 6 hints of at most 255 characters, percent-encoded, fit easily. */
  uriCharacters: 4_096,
  /** Addresses in one invite, and its characters: 8 × 215 for addresses, 700 for everything else. */
  inviteAddrs: 8,
  inviteCharacters: 2_560,
  /** Private networks whose key one home keeps. */
  networkKeys: 64,
  /** Petnames in one home, ~300 B each. */
  contacts: 10_000,
  /** Addresses in a contact record, and hints in an `llm://` text (swarm.md §2). */
  addressesPerPeer: 6,
  /** One multiaddr in its binary form, as in EXTEND (protocol.md §3). */
  multiaddrBytes: 160,
  /** A contact record with everything it may carry is below 1,300 bytes; swarm.md §2 allows 1,536. */
  contactRecordBytes: 1_536,
  /** Peer families named in one contact record (swarm.md §2). */
  familyKeys: 4,
  /** How long a record may be valid: a key that leaked is useless after that (swarm.md §2). */
  contactLifetimeMs: 12 * 3_600_000,
  /** Wrong clocks of honest people differ by minutes, not by hours (swarm.md §2). */
  clockSkewMs: 600_000,
  /** Addresses whose highest sequence is remembered (swarm.md §2): 10,000 × ~200 B = 2 MB. */
  seenRecords: 10_000,
  /** Addresses that have signed two truths: 256 × two records = 0.8 MB; and for how long, as with a proven lie. */
  contradictions: 256,
  contradictionMs: 30 * 86_400_000,
  /** Contact records kept in memory, ≤1,536 B each: 6 MiB. */
  contactRecords: 4_096,
  /** Peers asked at the same time for one record. */
  askedForRecord: 8,
  /** Circuit streams per connection and direction (protocol.md §7). */
  circuitStreams: 256,
  /** Streams of any other protocol per connection and direction (protocol.md §7). */
  otherStreams: 4,
  /** Largest frame on a circuit stream: 60 KiB of data, tag and header. */
  circuitFrameBytes: 65_536,
  /** Bytes a stream may hold unread: above the 4 MiB grant of a circuit (protocol.md §5). */
  streamBufferBytes: 8 * 1_048_576,
  /** Bytes waiting to be written on one stream; the ring bounds them far below (protocol.md §5). */
  streamWriteBytes: 16 * 1_048_576,
  /** First step of a growing frame buffer: a header that promises much makes nobody allocate it. */
  frameFirstBytes: 65_536,
  /** Connections of one node; a connection costs ~100 KiB. */
  connections: 300,
  /** New connections a second from one address, and half-open ones: libp2p's 5 and 10 starve a LAN behind one NAT. */
  inboundPerSecond: 50,
  inboundPending: 50,
  /** Connecting, including the handshake (protocol.md §6). */
  connectMs: 5_000,
  /** For somebody to be there at one address of a peer that has several: a dead one leaves time for the next. */
  connectAddressMs: 2_500,
  /** QUIC where TCP was refused just now: two round trips to anywhere, or nearby. And such places remembered, ~100 B each. */
  refusedDialMs: 750,
  refusedLocalMs: 150,
  refusedDials: 256,
  /** Address keys whose order has been looked at, ~150 B each. */
  goodKeys: 4_096,
  /** One request and its answer over a stream. */
  requestMs: 10_000,
  /** Requests waiting for one peer and protocol. */
  requestsWaiting: 64,
  /** A write that makes no progress for that long: the peer does not read (protocol.md §6, one prefill chunk). */
  stallMs: 30_000,
  /** A stream that was closed here and not there is reset after that. */
  closeMs: 5_000,
  /** mDNS: names remembered, pause after a dial, and how long the second of two peers waits for the first one's dial. */
  localPeers: 1_024,
  localRetryMs: 15_000,
  localTurnMs: 400,
  /** Peers of which addresses and protocols are remembered, ~1 KB each, in memory and on the disk. */
  knownPeers: 10_000,
  /** Those of them of which is known when what was written, ~3 KB each. */
  notedPeers: 1_024,
  /** What this node keeps for the DHT (swarm.md §2), how long a record, and who is noted at meeting points. */
  dhtRecords: 2_000,
  dhtRecordBytes: 4 * 1_048_576,
  dhtRecordMs: 3.5 * 3_600_000,
  dhtProviders: 20_000,
  /** `/llm/` and 56 characters, or a hash; addresses of one provider. */
  dhtKeyBytes: 128,
  dhtProviderAddrs: 32,
  /** Messages of one sender: swarm.md §2 for PUT; 4 models of 160 layers are 160 meeting points, told every 30 min. */
  dhtQuotas: {
    put: { burst: 4, perMinute: 4 },
    provide: { burst: 256, perMinute: 16 },
    ask: { burst: 500, perMinute: 1_200 },
  },
  dhtSenders: 4_096,
  /** One query in the DHT, and members of a meeting point that are looked at. */
  dhtQueryMs: 8_000,
  dhtFound: 32,
  /** Known peers dialled again at start. */
  redialAtStart: 32,
  /** First and longest pause between attempts to reach the bootstrap addresses. */
  redialFirstMs: 1_000,
  redialMaxMs: 60_000,
} as const

/** A bootstrap node: everybody comes here first, and many at once after a failure of the network. */
export const bootstrapLimits = {
  /** ~100 KiB each. */
  connections: 1_500,
  /** From one address: a whole company may sit behind one NAT. */
  inboundPerSecond: 200,
  inboundPending: 200,
} as const

/** Circuits (src/onion). Sections of protocol.md in brackets. */
export const onionLimits = {
  /** Hops of a circuit without the entry itself: 8 compute and 4 relay [§7]. */
  hops: 12,
  computeHops: 8,
  relayHops: 4,
  /** CONTROL_EARLY frames in a circuit's life: one per EXTEND, the closing one included [§3]. */
  earlyFrames: 12,
  /** CREATED sent and nothing authenticated yet [§2]. */
  halfOpen: 64,
  halfOpenMs: 10_000,
  /** No frame for this long, and the whole life, in seconds [§7]. */
  idleS: 600,
  lifeS: 3_600,
  /** Bytes of one circuit's life: far below the AES-GCM bound, enough for ~16 million decode steps of 4 KiB [§7]. */
  lifeBytes: 64 * 2 ** 30,
  /** Unanswered bytes that a hop grants to a circuit; the most that may wait in it [§5]. */
  queueBytes: 4 * 1_048_576,
  /** What frame headers, tags and padding of one frame may add to its rows [§5]. */
  frameSpareBytes: 65_536,
  /** Rows of one frame, whatever the grant allows [§5]. */
  maxRows: 512,
  /** Bytes waiting in all circuits of one stranger, and in all circuits [§7]. */
  queuePeerBytes: 16 * 1_048_576,
  queueTotalBytes: 256 * 1_048_576,
  /** Relayed bytes per second and the burst before that counts [§7]. */
  relayBytesPerS: 8_000_000,
  relayBurstBytes: 32 * 1_048_576,
  /** The same for all circuits together: four at full speed; beyond, their peers take turns. */
  relayTotal: { perS: 32_000_000, burst: 128 * 1_048_576 },
  /** Relay circuits of one stranger, and in all [§7]. */
  relayPeerCircuits: 16,
  relayCircuits: 256,
  /** CREATE per second and burst: per stranger, per public subnet, in all; × `trustedFactor` for known peers [§7]. */
  createPerPeer: { perS: 1, burst: 8 },
  createPerSubnet: { perS: 3, burst: 30 },
  createTotal: { perS: 20, burst: 40 },
  trustedFactor: 20,
  /** Circuits of one stranger that end by its fault or before they are set up; beyond, it is sent away for so long [§7]. */
  fouls: { perS: 0.5, burst: 32 },
  foulMs: 60_000,
  /** PINGs of one circuit: an entry sends a few at a stall, and each is a layer to open and one to seal [§7]. */
  pings: { perS: 8, burst: 64 },
  /** Peers and subnets whose rate is remembered, and peers in good standing: ~100 B each. */
  rememberedPeers: 4_096,
  /** The successor ended: state and KV are kept this long for TRUNCATE, EXTEND or the entry's close [§6]. */
  holdMs: 15_000,
  /** So long a broken ring waits to be mended: less than its hops wait. */
  mendMs: 10_000,
  /** Circuits built ahead, and how long each is kept: its hops would drop it after `idleS`. They hold no KV anywhere. */
  readyRings: 4,
  readyMs: 300_000,
  /** Outer bounds of building [§6]. */
  connectMs: 5_000,
  createMs: 10_000,
  extendMs: 15_000,
  /** Reserving KV may allocate; it has the time of an EXTEND. */
  opMs: 15_000,
  /** From the sending of a prefill frame [§6]; a decode step has max(stepMs, 10 × its moving average). */
  prefillMs: 30_000,
  stepMs: 5_000,
  /** Silence of max(silenceMs, 5 × moving average) starts PINGs, answered within max(pingMs, 4 × round trip) [§6]. */
  silenceMs: 300,
  pingMs: 2_000,
  /** After its return stream ended the entry waits this long for TRUNCATED, to know where the circuit broke [§6]. */
  truncatedWaitMs: 500,
  /** The beat of a ring with a cadence goes on for so long after its last row, and never so far ahead of its answers. */
  cadenceTailMs: 5_000,
  paddingUnderWay: 16,
  /** Dials for one EXTEND, addresses in it and their bytes [§3]. */
  extendDials: 2,
  extendAddrs: 4,
  extendAddrBytes: 160,
  /** One request of an answer circuit, the whole answer, and what may be under way beyond what was received [§5]. */
  answerRequestBytes: 1_048_576,
  answerBytes: 4 * 1_048_576,
  answerWindowBytes: 262_144,
  /** One frame of an answer, and how much is received before that is said. */
  answerFrameBytes: 32_768,
  answerAckBytes: 65_536,
  /** Silence after which the caller asks whether the answering hop is still there. */
  answerSilenceMs: 5_000,
  /** Rings that one node may hold open as entry: each holds KV elsewhere. */
  openRings: 64,
} as const

/** Computing (src/shard: runner, ends). */
export const shardLimits = {
  /** A run that took less than this is run on the event loop's own thread: no timer or socket notices it. */
  briefRunMs: 0.5,
  /** Rows of one run: a long prompt delays other sessions by at most one such run (engine.md §8). */
  runRows: 128,
  /** Calls of at most this many rows are decode steps, a token and the draft after it, and go before longer ones. */
  stepRows: 8,
  /** Calls of one session that may wait: a pipelined prefill keeps a few frames ahead, nobody needs more. */
  waitingForwards: 64,
  /** Attention scores of a session's rows, per layer: 128 rows of 16 heads up to a context of 8,192, fewer rows beyond. */
  scoreBytes: 64 * 1_048_576,
  /** Rows of one run of the head: 16 × 152k logits are 10 MB. */
  headRows: 16,
  /** Row counts whose input and output buffers are kept: decode, drafts, a full chunk and what is left of a prompt. */
  stagedRowCounts: 8,
  /** The same for the head, whose rows are as wide as the vocabulary: decode and one length of drafts. */
  stagedHeadCounts: 2,
  /** KV copied between two turns of the event loop: about 2 ms. */
  copyBytes: 16 * 1_048_576,
} as const

/** The file server of the demo and of tests (src/shard/file-server). */
export const fileServerLimits = {
  /** Clients counted by name; more are counted together. */
  clients: 256,
  /** Bytes read from the disk at once. */
  chunkBytes: 65_536,
} as const

/** Chat templates (src/model): programs that come with a model, so they must not run or grow without end. */
export const templateLimits = {
  /** The longest published ones have about 10,000 characters. */
  characters: 262_144,
  /** Numbers that one range() may make; templates loop over messages, not over numbers. */
  rangeItems: 100_000,
} as const

/** What the commands read (src/cli). */
export const cliLimits = {
  /** Texts for `tokenize`: the largest test sets have a few MB. */
  stdinBytes: 67_108_864,
  /** What `logits` keeps in memory and writes. */
  logitsBytes: 4 * 2 ** 30,
} as const

/** Adverts and their exchange (src/coverage). */
export const coverageLimits = {
  /** Relays used at the ends of circuits, and how long each is kept (protocol.md §4: 3, for 120 days). */
  guardsInUse: 3,
  guardMs: 120 * 86_400_000,
  /** Guards remembered with those that are away: who drives the honest ones off gets at most so many turns. */
  guardsKept: 6,
  /** Chats whose profile is remembered: 100 B each. */
  chatProfiles: 1_024,
  /** One serving advert with its signature (swarm.md §2). */
  advertBytes: 1_024,
  /** Models that one advert names; each costs 90 bytes and 4 a layer. */
  servings: 4,
  /** Layers of one span in an advert: as many digests as fit; the deepest published models have 126. */
  advertLayers: 160,
  /** Round trips to neighbours in an advert (swarm.md §2). */
  advertNeighbours: 5,
  /** Links of a heartbeat chain: one a minute for the 30 minutes of an advert, and as many again for late renewals. */
  chainLinks: 64,
  /** A sign of life of that age is none: two heartbeats of 60 s, less what looking takes, so that nobody is a ghost for 120 s. */
  maxAgeMs: 115_000,
  /** How long the highest (sequence, index) of a silent peer is remembered (swarm.md §2). */
  rememberMs: 900_000,
  /** Peers known whole; above that a node keeps of each group of layers the 16 nearest (swarm.md §2). */
  crowd: 1_200,
  /** Peers in the table, silent ones included, ≤1 KiB each. */
  peers: 1_500,
  /** Up to so many, what is new is sent at once; above, it is offered, so that it crosses each node's line only once. */
  pushedWhole: 64,
  /** Items of one message: with advert, heartbeat and contact record at most 600 KiB. */
  messageItems: 512,
  messageBytes: 786_432,
  /** Peers that a change is pushed to (swarm.md §2), and connections a node makes by itself to have some. */
  pushedTo: 6,
  /** The same above pushedWhole peers: a message costs 1.1 KB of headers besides what it says (measured). */
  offeredTo: 3,
  meshPeers: 8,
  /** In a crowd a node also connects to those nearest to it, up to this many neighbours. */
  meshMost: 16,
  /** Neighbours whose round trip is measured. */
  measured: 16,
  /** Items from one sender: burst and per second. A signature check takes 1–2 ms. */
  itemsBurst: 4_096,
  itemsPerSecond: 100,
  /** Items that are no valid records before a sender is not listened to for a while. */
  badItems: 16,
  /** In which half of that is forgotten: a fault now and then is no attack. */
  badHalfLifeMs: 600_000,
  ignoreMs: 600_000,
  /** Of a peer's score. Half of a swarm is gone after an hour (swarm.md §6): what was seen before is of other lines and loads. */
  scoreHalfLifeMs: 3_600_000,
  /** Observations that a score counts at most: twelve failures in a row undo any good past. */
  scoreWeight: 16,
  /** Names with a score: an address and a PeerId for everybody who fits into the table, ~100 B each. */
  scoredPeers: 3_000,
} as const
