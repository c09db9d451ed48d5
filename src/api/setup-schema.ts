import { z } from 'zod'
import { errorBody } from './bodies.ts'
import { catalogueModelBody, checkBody, type costBody, machineBody, planBody, planRequest } from './home-bodies.ts'

/** Everything that the wizard shows; it is sent whole at every change. */
export const setupBody = z.object({
  /** `choosing` until something is to be fetched; after `failed` it can be tried again. */
  phase: z.enum(['choosing', 'planning', 'fetching', 'testing', 'starting', 'running', 'failed']),
  machine: machineBody.nullable(),
  network: z.object({
    name: z.string(),
    private: z.boolean(),
    /** The node has a look at it now. */
    looking: z.boolean(),
    peers: z.array(z.object({ address: z.string(), serving: z.array(z.string()).readonly() })).readonly(),
  }),
  bundled: z.string().meta({ description: 'The model that comes with the program.' }),
  catalogue: z.array(catalogueModelBody).readonly(),
  /** What this home holds already, "demo-qwen3 4-7". */
  held: z.array(z.string()).readonly(),
  /** Begun earlier and not finished. */
  pending: planRequest.extend({ layers: z.string(), ends: z.boolean() }).nullable(),
  shareMiB: z.int().nullable().meta({ description: 'Memory that the node may take; null: all of it.' }),
  plan: planBody.nullable(),
  layers: z.string().nullable().meta({ description: 'What is being fetched.' }),
  progress: z
    .object({
      bytesDone: z.int(),
      bytesTotal: z.int(),
      bytesPerSecond: z.number().nullable(),
      secondsLeft: z.number().nullable(),
    })
    .nullable(),
  tests: z.array(checkBody).readonly(),
  error: errorBody.shape.error.nullable(),
  node: z
    .object({ url: z.string(), address: z.string(), invite: z.string().nullable() })
    .nullable()
    .meta({ description: 'The node that runs now; url is that of its pages, with the token.' }),
})

export type SetupBody = z.output<typeof setupBody>

/** Either a name that everybody of the network uses, or the invite line of a friend. */
export const networkRequest = z.union([
  z.strictObject({ name: z.string().max(64) }),
  z.strictObject({ invite: z.string().max(4_096) }),
])
export const fetchRequest = z.strictObject({
  layers: z.string().max(16).meta({ description: '"4-7", "all" or "none".' }),
  ends: z.boolean(),
})
export const costRequest = z.strictObject({ layers: z.string().max(16) })

export const shareRequest = z.strictObject({ memoryMiB: z.int().min(512).max(16_777_216).nullable() })

export type NetworkRequest = z.output<typeof networkRequest>
export type FetchRequest = z.output<typeof fetchRequest>
export type SetupPlanRequest = z.output<typeof planRequest>

/** What the pages do with a home that is being set up; src/node passes it in. Failures appear in the state. */
export interface SetupControl {
  state(): SetupBody
  /** Has a look at a network, live, and keeps it. Throws BAD_INPUT. */
  network(request: NetworkRequest): Promise<void>
  /** How much of this machine is left to the node. */
  share(request: z.output<typeof shareRequest>): void
  plan(request: SetupPlanRequest): Promise<void>
  /** Throws BAD_INPUT without a plan, or for other layers than the model has. */
  cost(layers: string): z.output<typeof costBody>
  /** Downloads, tests and starts. Throws BAD_INPUT without a plan. */
  fetch(request: FetchRequest): void
  /** Breaks the download off; what is there stays. */
  pause(): void
}
