/** One generation and the sessions of a hop (src/pipeline). */
export const pipelineLimits = {
  /** Below this share of free KV no neighbour may hold more than half (protocol.md §7). */
  kvShortShare: 0.25,
  /** Rows of one prefill frame: a long prompt delays other sessions by at most one such frame (engine.md §8). */
  prefillRows: 128,
  /** Prefill frames sent ahead of their answers: enough to keep 8 hops busy; the ring bounds the bytes. */
  prefillFramesUnderWay: 12,
  /** Prompt and answer of one request, before tokenising: a 1 MiB prompt is far beyond every supported context. */
  promptBytes: 1_048_576,
  /** Stop strings of one request; OpenAI allows 4, more costs nothing but must end somewhere. */
  stopStrings: 16,
} as const

/** The HTTP API (src/api). */
export const apiLimits = {
  /** interface.md §3: a 4 MiB body holds every prompt that a supported context can take. */
  bodyBytes: 4 * 1_048_576,
} as const
