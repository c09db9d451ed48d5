import { z } from 'zod'
import { LlmNodeError } from './errors.ts'
import { isVersion } from './version.ts'

/** Names go into mDNS, protocol names and VER. */
const networkName = /^[a-z0-9][a-z0-9.-]{0,62}$/

export function isNetworkName(text: string): boolean {
  return networkName.test(text)
}

/** One schema for the file, the environment and the flags. A field that is added gets a default here. */
const modelEntry = z.strictObject({
  /** What people call it: the last part of the source. */
  name: z.string().min(1),
  /** Where the files come from: a repository ("org/name", "org/name@revision"), an http(s) folder, a folder on disk. */
  source: z.string().min(1),
  recipe: z.enum(['f32', 'q8', 'q4', 'i8']),
  /** Layers this node holds, "4-7"; null: none. */
  layers: z.string().nullable(),
  /** The ends (embedding, final norm, head, tokenizer) are held, so this node can ask. */
  ends: z.boolean(),
  /** Folder of the downloaded parts, below the home's models folder. */
  folder: z.string().min(1),
  /** These layers were chosen by hand: the node never moves to others and never gives them up. */
  pinned: z.boolean().default(false),
})

export const configSchema = z.strictObject({
  version: z.literal(1).default(1),
  network: z
    .strictObject({
      /** Part of every handshake, signature and discovery tag: two names never mix. */
      name: z.string().regex(networkName, 'use 1 to 63 of a-z, 0-9, dot and dash').default('llm-node'),
      /** The network has a pre-shared key, kept beside the node's own keys: without it nothing starts. */
      private: z.boolean().default(false),
      mdns: z.boolean().default(true),
      /** Forward circuits for others, encrypted and within limits; this hides nobody's text from who computes it. */
      relay: z.boolean().default(true),
      /** Circuits of others that may pass through at once. */
      relayCircuits: z.int().min(1).max(256).default(256),
      /** Megabytes a second that one of them may send; all together four times as much. */
      relayMBps: z.number().min(0.1).max(10_000).default(8),
      /** Multiaddrs with /p2p/PEERID, dialled at start. */
      bootstrap: z.array(z.string()).max(32).default([]),
      /** Oldest version of the program that this network accepts, as its invite says; null: any. */
      minVersion: z.string().refine(isVersion, 'use three numbers, 1.2.3').nullable().default(null),
      /** Ask the router to forward the port (UPnP), so that others can dial this node. */
      upnp: z.boolean().default(true),
      /** Multiaddrs of ports that were forwarded to this node by hand, told to others as they are. */
      announce: z.array(z.string()).max(4).default([]),
      /** Address to listen on. */
      host: z.string().default('0.0.0.0'),
      /** TCP and UDP port; null: 5561, or any free one when that is taken. */
      port: z.int().min(0).max(65535).nullable().default(null),
    })
    .prefault({}),
  models: z.array(modelEntry).max(16).default([]),
  engine: z
    .strictObject({
      /** Threads of one run; null: all cores that this process may use. */
      threads: z.int().min(1).max(256).nullable().default(null),
      /** Memory for KV of all sessions, in MiB. */
      kvMiB: z.int().min(1).max(1_048_576).default(512),
      /** Another build of libonnxruntime; null: the bundled one. */
      library: z.string().nullable().default(null),
      /** What computes; auto: a GPU where one can be used (docs/gpu.md). */
      provider: z.enum(['cpu', 'cuda', 'auto']).default('cpu'),
    })
    .prefault({}),
  /** What of this machine the node may take; null: what is there. Threads: engine.threads. */
  share: z
    .strictObject({
      memoryMiB: z.int().min(512).max(16_777_216).nullable().default(null),
      /** For model files. */
      diskMiB: z.int().min(16).max(1_073_741_824).nullable().default(null),
      /** Of downloads, MiB per second. */
      downloadMiBps: z.number().min(0.01).max(100_000).nullable().default(null),
    })
    .prefault({}),
  care: z
    .strictObject({
      /** Serve nobody until llm-node resume. */
      paused: z.boolean().default(false),
      /** Hold other layers when the swarm needs them more; what was chosen by hand stays. */
      move: z.boolean().default(true),
      /** Local time in which this node serves others, "22:00-07:00"; null: always. */
      hours: z
        .string()
        .regex(/^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$/, 'write it as 22:00-07:00')
        .nullable()
        .default(null),
      /** Serve only while other programs leave at least half of the processor unused. */
      onlyWhenIdle: z.boolean().default(false),
      /** Serve nobody while the machine runs on its battery. */
      pauseOnBattery: z.boolean().default(true),
    })
    .prefault({}),
  api: z
    .strictObject({
      host: z.string().default('127.0.0.1'),
      /** Null: 5560, or any free one when that is taken. */
      port: z.int().min(0).max(65535).nullable().default(null),
      /** The OpenAI part needs a key also on loopback; on any other address it always does. */
      requireKey: z.boolean().default(false),
      /** Names, besides addresses, under which clients reach the API; a foreign name is refused (DNS rebinding). */
      allowedHosts: z.array(z.string().toLowerCase()).max(32).default([]),
    })
    .prefault({}),
  privacy: z
    .strictObject({
      /** Who may see what, unless a request says more. */
      profile: z.enum(['auto', 'direct', 'guarded', 'trusted', 'local-only']).default('auto'),
      /** Addresses that may hold layers under the profile `trusted`. */
      trusted: z
        .array(z.string().regex(/^[a-z2-7]{56}\.llm$/, 'use whole .llm addresses'))
        .max(256)
        .default([]),
      /** Allow two hops of one owner or network on a guarded circuit: for swarms that one person runs. */
      allowSameOwner: z.boolean().default(false),
      /**
       * A token's frames leave at a beat of so many ms, all of one size, and blank ones between: slower, and more bytes, but
       * neither when nor how fast an answer comes shows to whoever watches the line. Null: as they come.
       */
      cadenceMs: z.int().min(10).max(2_000).nullable().default(null),
    })
    .prefault({}),
  /** Whom this node generates for when it is asked over an answer circuit, and how much. */
  answers: z
    .strictObject({
      /** Also for callers who do not say who they are, or are not on the list. */
      strangers: z.boolean().default(false),
      /** Addresses that may ask, when they prove theirs. */
      allow: z
        .array(z.string().regex(/^[a-z2-7]{56}\.llm$/, 'use whole .llm addresses'))
        .max(256)
        .default([]),
      /** Longest answer. */
      maxTokens: z.int().min(1).max(1_048_576).default(512),
      /** Requests a minute: of each address on the list, and of all strangers together. */
      perMinute: z.int().min(1).max(6_000).default(6),
      /** Answers under way at once. */
      atOnce: z.int().min(1).max(64).default(2),
    })
    .prefault({}),
  audit: z
    .strictObject({
      /** Share of answers that others compute again, to compare: they see the text, too. 0: none at all. */
      probability: z.number().min(0).max(1).default(0.02),
      /** The same for an answer over a peer that has not passed some audits yet. */
      newPeers: z.number().min(0).max(1).default(0.25),
    })
    .prefault({}),
  log: z
    .strictObject({ level: z.enum(['silent', 'error', 'warn', 'info', 'debug', 'trace']).default('info') })
    .prefault({}),
})

export type Config = z.infer<typeof configSchema>
export type ModelEntry = z.infer<typeof modelEntry>

/** Environment variables and the setting each one overrides. */
const ENVIRONMENT: Readonly<
  Record<string, readonly [section: 'network' | 'engine' | 'api' | 'privacy' | 'log', key: string]>
> = {
  LLM_NODE_NETWORK: ['network', 'name'],
  LLM_NODE_MDNS: ['network', 'mdns'],
  LLM_NODE_RELAY: ['network', 'relay'],
  LLM_NODE_UPNP: ['network', 'upnp'],
  LLM_NODE_PROFILE: ['privacy', 'profile'],
  LLM_NODE_PORT: ['network', 'port'],
  LLM_NODE_THREADS: ['engine', 'threads'],
  LLM_NODE_KV_MIB: ['engine', 'kvMiB'],
  LLM_NODE_ORT_LIB: ['engine', 'library'],
  LLM_NODE_PROVIDER: ['engine', 'provider'],
  LLM_NODE_API_HOST: ['api', 'host'],
  LLM_NODE_API_PORT: ['api', 'port'],
  LLM_NODE_LOG_LEVEL: ['log', 'level'],
}

/** What can be set by variable: its name, and the setting as `config set` names it. */
export const environmentSettings: readonly (readonly [variable: string, setting: string])[] = Object.entries(
  ENVIRONMENT,
).map(([variable, path]) => [variable, path.join('.')])

export type ConfigOverrides = Partial<Record<'network' | 'engine' | 'api' | 'privacy' | 'log', Record<string, unknown>>>

/** Checks `raw` (the file's content) with `overrides` laid over it. Throws BAD_CONFIG naming the field. */
export function parseConfig(raw: unknown, overrides: ConfigOverrides = {}): Config {
  const merged = { ...(isRecord(raw) ? raw : {}) }
  if (raw !== undefined && !isRecord(raw)) throw new LlmNodeError('BAD_CONFIG', 'The configuration is not an object.')
  if (typeof merged.version === 'number' && merged.version > 1) {
    throw new LlmNodeError('BAD_CONFIG', `The configuration has version ${merged.version}; this program knows 1.`, {
      hint: 'It was written by a newer llm-node: update this one.',
    })
  }
  for (const [section, values] of Object.entries(overrides)) {
    const base = merged[section]
    merged[section] = { ...(isRecord(base) ? base : {}), ...values }
  }
  const result = configSchema.safeParse(merged)
  if (result.success) return result.data
  const issue = result.error.issues[0]
  const field = issue?.path.join('.') || 'the file'
  throw new LlmNodeError('BAD_CONFIG', `Configuration, ${field}: ${issue?.message ?? 'not valid'}.`, {
    hint: 'Correct the flag, the LLM_NODE_ variable or config.json, wherever it was set.',
    meta: { field },
  })
}

/** Settings from LLM_NODE_* variables. Numbers and booleans are read as such; parseConfig checks them. */
export function configFromEnvironment(env: Readonly<Record<string, string | undefined>>): ConfigOverrides {
  const overrides: ConfigOverrides = {}
  for (const [name, [section, key]] of Object.entries(ENVIRONMENT)) {
    const text = env[name]
    if (text === undefined || text === '') continue
    const value = /^\d+$/.test(text) ? Number(text) : text === 'true' ? true : text === 'false' ? false : text
    overrides[section] = { ...overrides[section], [key]: value }
  }
  return overrides
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
