import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { fromHex, fromUtf8, toHex, utf8 } from '../base/bytes.ts'
import { LlmNodeError } from '../base/errors.ts'
import { p2pLimits } from '../base/limits.ts'
import { addressSchema, loadOrCreate, prepareFolder, transportSchema, writeSecret } from './key-files.ts'
import { openSealed, sealedSchema, sealWithPassword } from './sealed-secret.ts'

const exportSchema = z.strictObject({
  format: z.literal('llm-node identity'),
  version: z.literal(1),
  sealed: sealedSchema,
})
const contentSchema = z.strictObject({
  seed: z.string().regex(/^[0-9a-f]{64}$/),
  transport: transportSchema.shape.private,
})

/** The address and transport keys of `folder` under `password`, as a text file. The onion key stays: another is made. */
export async function exportKeys(
  folder: string,
  options: { password: string; current?: string | undefined },
): Promise<string> {
  const seed = await readSeed(folder, options.current)
  const transport = await loadOrCreate(join(folder, 'transport.json'), transportSchema, missing)
  const content = utf8(JSON.stringify({ seed, transport: transport.private }))
  const sealed = await sealWithPassword(content, options.password)
  content.fill(0)
  return `${JSON.stringify({ format: 'llm-node identity', version: 1, sealed })}\n`
}

/** Puts exported keys into a folder that has none. Throws BAD_INPUT, AUTH_FAILED, HOME_UNUSABLE. */
export async function importKeys(folder: string, text: string, password: string): Promise<void> {
  const parsed = text.length > p2pLimits.exportBytes ? undefined : exportSchema.safeParse(parseJson(text))
  if (parsed?.success !== true) {
    throw new LlmNodeError('BAD_INPUT', 'This is no exported identity.', {
      hint: 'Name a file that was written by: llm-node id export FILE',
    })
  }
  await prepareFolder(folder)
  for (const name of ['address.json', 'transport.json']) {
    if (!(await exists(join(folder, name)))) continue
    throw new LlmNodeError('HOME_UNUSABLE', `This home has keys already (${folder}).`, {
      hint: 'Import into a new home (--home DIR), or move the old keys away first.',
    })
  }
  const content = contentSchema.safeParse(parseJson(fromUtf8(await openSealed(parsed.data.sealed, password))))
  if (!content.success) throw new LlmNodeError('BAD_INPUT', 'The exported identity does not hold the keys it should.')
  await writeSecret(join(folder, 'transport.json'), { version: 1, private: content.data.transport })
  await writeSecret(join(folder, 'address.json'), { version: 1, seed: content.data.seed })
}

/** Seals the address key in its file, or writes it openly again (`password` null). Throws AUTH_FAILED, BAD_INPUT. */
export async function protectKeys(
  folder: string,
  options: { password: string | null; current?: string | undefined },
): Promise<void> {
  const seed = await readSeed(folder, options.current)
  const stored =
    options.password === null
      ? { version: 1, seed }
      : { version: 2, sealed: await sealWithPassword(fromHex(seed), options.password) }
  await writeSecret(join(folder, 'address.json'), stored)
}

async function readSeed(folder: string, current: string | undefined): Promise<string> {
  const stored = await loadOrCreate(join(folder, 'address.json'), addressSchema, missing)
  return stored.version === 1 ? stored.seed : toHex(await openSealed(stored.sealed, current ?? ''))
}

function missing(): Promise<never> {
  throw new LlmNodeError('NOT_SET_UP', 'This home has no keys yet.', { hint: 'llm-node id makes them.' })
}

function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
