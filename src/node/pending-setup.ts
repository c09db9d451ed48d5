import { rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import { writeFileAtomic } from '../base/files.ts'
import { type Home, readIfPresent } from './home.ts'

const pendingSchema = z.strictObject({
  model: z.string().min(1),
  layers: z.string().min(1),
  ends: z.boolean(),
  recipe: z.enum(['f32', 'q8', 'q4', 'i8']),
  pinned: z.boolean().default(false),
})

/** What a set-up that was stopped in the middle had decided: the next one goes on with it instead of asking again. */
export type PendingSetup = z.infer<typeof pendingSchema>

function fileOf(home: Home): string {
  return join(dirname(home.runFile), 'setup.json')
}

export async function readPendingSetup(home: Home): Promise<PendingSetup | undefined> {
  const text = await readIfPresent(fileOf(home))
  try {
    return pendingSchema.safeParse(JSON.parse(text ?? 'null')).data
  } catch {
    return undefined
  }
}

export async function writePendingSetup(home: Home, pending: PendingSetup): Promise<void> {
  await writeFileAtomic(fileOf(home), `${JSON.stringify(pending)}\n`, 0o600)
}

export async function clearPendingSetup(home: Home): Promise<void> {
  await rm(fileOf(home), { force: true })
}
