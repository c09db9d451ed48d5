import { z } from 'zod'

/** What the pages see and do of a home beyond its running node: contacts, settings, models, checks. */

const layersText = z.string().meta({ description: 'First and last layer: "4-7".' })
const recipe = z.enum(['f32', 'q8', 'q4', 'i8'])

export const inviteBody = z.object({
  line: z.string().meta({ description: 'For a friend: llm-node join LINE. Of a private network it holds the key.' }),
  private: z.boolean(),
})

const contactBody = z.object({
  petname: z.string(),
  address: z.string(),
  verified: z.boolean(),
  safetyNumber: z.string(),
})
export const contactsBody = z.object({ contacts: z.array(contactBody).readonly() })
export const contactRequest = z.strictObject({ petname: z.string().max(160), address: z.string().max(4_096) })
export const contactAddedBody = z.object({ contact: contactBody, warnings: z.array(z.string()).readonly() })
export const contactNamed = z.strictObject({ petname: z.string().max(160) })

export const configBody = z.object({
  file: z.string(),
  config: z.record(z.string(), z.unknown()).meta({ description: 'As config.json says it, with defaults.' }),
})
export const settingRequest = z.strictObject({
  path: z.string().max(128).meta({ description: 'Dotted: "privacy.profile".' }),
  value: z.union([z.string(), z.number(), z.boolean(), z.null(), z.array(z.string())]),
})

export const checkBody = z.object({
  name: z.string(),
  status: z.enum(['ok', 'warn', 'fail', 'skip']),
  finding: z.string(),
  fix: z.string().nullable(),
})
export const doctorBody = z.object({ checks: z.array(checkBody).readonly() })

const heldModelBody = z.object({
  name: z.string(),
  source: z.string(),
  recipe,
  layers: layersText.nullable(),
  nLayers: z.int().nullable(),
  ends: z.boolean(),
  bytes: z.int().nullable(),
  problem: z.string().nullable(),
})
export const catalogueModelBody = z.object({
  repository: z.string(),
  licence: z.string(),
  gated: z.boolean(),
  nLayers: z.int(),
  maxContext: z.int(),
  layerBytes: z.int().meta({ description: 'Of one layer in the recipe that suits this processor.' }),
  totalBytes: z.int(),
})
export const modelsBody = z.object({
  recipe,
  held: z.array(heldModelBody).readonly(),
  catalogue: z.array(catalogueModelBody).readonly(),
})

export const machineBody = z.object({
  cpu: z.object({ model: z.string().nullable(), cores: z.int(), features: z.array(z.string()).readonly() }),
  memory: z.object({ totalBytes: z.int(), freeBytes: z.int(), limitedBy: z.enum(['machine', 'cgroup', 'share']) }),
  disk: z.object({ totalBytes: z.int(), freeBytes: z.int() }).nullable(),
  gpus: z.array(z.string()).readonly(),
  onBattery: z.boolean(),
})

export const costBody = z.object({
  layers: layersText,
  downloadBytes: z.int(),
  diskBytes: z.int(),
  memoryBytes: z.int(),
  minutes: z.number().meta({ description: 'An estimate at 50 Mbit/s; 0: from this machine.' }),
})
export const planBody = z.object({
  name: z.string(),
  source: z.string(),
  modelId: z.string(),
  recipe,
  nLayers: z.int(),
  fits: z.int().meta({ description: 'Layers that fit here.' }),
  limitedBy: z.string(),
  peers: z.int(),
  holders: z.int().meta({ description: 'Peers that hold layers of this model.' }),
  replicas: z.array(z.int()).readonly().meta({ description: 'Of each layer, before this node.' }),
  estimate: z
    .object({ solo: z.number().nullable(), split: z.number().nullable() })
    .meta({ description: 'Tokens per second of one answer: alone, and through the swarm with this node in it.' }),
  recommended: costBody.extend({ reason: z.string() }).nullable(),
})
export const planRequest = z.strictObject({ model: z.string().min(1).max(1_024), recipe: recipe.optional() })

export type InviteBody = z.output<typeof inviteBody>
export type ContactsBody = z.output<typeof contactsBody>
export type ContactAddedBody = z.output<typeof contactAddedBody>
export type ConfigBody = z.output<typeof configBody>
export type SettingRequest = z.output<typeof settingRequest>
export type DoctorBody = z.output<typeof doctorBody>
export type ModelsBody = z.output<typeof modelsBody>
export type MachineBody = z.output<typeof machineBody>
export type CostBody = z.output<typeof costBody>
export type PlanBody = z.output<typeof planBody>
export type PlanRequest = z.output<typeof planRequest>

/** What the API needs of the home of its node; src/node passes it in. Each throws what the command of its name throws. */
export interface HomeControl {
  invite(): Promise<InviteBody>
  contacts(): Promise<ContactsBody>
  addContact(contact: z.output<typeof contactRequest>): Promise<ContactAddedBody>
  removeContact(petname: string): Promise<void>
  config(): Promise<ConfigBody>
  /** In force when the node starts the next time. */
  setSetting(setting: SettingRequest): Promise<void>
  doctor(signal: AbortSignal): Promise<DoctorBody>
  models(): Promise<ModelsBody>
  plan(request: PlanRequest, signal: AbortSignal): Promise<PlanBody>
}
