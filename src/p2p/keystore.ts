import { z } from 'zod'
import { fromUtf8, utf8 } from '../base/bytes.ts'
import { LlmNodeError } from '../base/errors.ts'
import { p2pLimits } from '../base/limits.ts'
import { addressSchema, transportSchema } from './identity.ts'
import { openKeyFiles } from './key-files.ts'
import { openSealed, sealedSchema, sealWithPassword } from './sealed-secret.ts'

const exportSchema = z.strictObject({
  format: z.literal('llm-node identity'),
  version: z.literal(1),
  sealed: sealedSchema,
})
const contentSchema = z.strictObject({ seed: addressSchema.shape.seed, transport: transportSchema.shape.private })

/** The address and transport keys of `folder` under `password`, as a text file. The onion key stays: another is made. */
export async function exportKeys(
  folder: string,
  options: { password: string; current?: string | undefined },
): Promise<string> {
  const files = await openKeyFiles(folder, options.current)
  const address = await files.read('address.json', addressSchema)
  const transport = await files.read('transport.json', transportSchema)
  if (address === undefined || transport === undefined) throw noKeys()
  const content = utf8(JSON.stringify({ seed: address.seed, transport: transport.private }))
  const sealed = await sealWithPassword(content, options.password)
  content.fill(0)
  return `${JSON.stringify({ format: 'llm-node identity', version: 1, sealed })}\n`
}

/** Puts exported keys into a folder that has none. Throws BAD_INPUT, AUTH_FAILED, HOME_UNUSABLE. */
export async function importKeys(
  folder: string,
  text: string,
  options: { password: string; current?: string | undefined },
): Promise<void> {
  const parsed = text.length > p2pLimits.exportBytes ? undefined : exportSchema.safeParse(parseJson(text))
  if (parsed?.success !== true) {
    throw new LlmNodeError('BAD_INPUT', 'This is no exported identity.', {
      hint: 'Name a file that was written by: llm-node id export FILE',
    })
  }
  const files = await openKeyFiles(folder, options.current)
  for (const name of ['address.json', 'transport.json'] as const) {
    if ((await files.read(name, z.unknown())) === undefined) continue
    throw new LlmNodeError('HOME_UNUSABLE', `This home has keys already (${folder}).`, {
      hint: 'Import into a new home (--home DIR), or move the old keys away first.',
    })
  }
  const content = contentSchema.safeParse(parseJson(fromUtf8(await openSealed(parsed.data.sealed, options.password))))
  if (!content.success) throw new LlmNodeError('BAD_INPUT', 'The exported identity does not hold the keys it should.')
  await files.write('transport.json', { version: 1, private: content.data.transport })
  await files.write('address.json', { version: 1, seed: content.data.seed })
}

/** Seals every secret of the folder under a password, a first or another one, or opens them again (`password` null). */
export async function protectKeys(
  folder: string,
  options: { password: string | null; current?: string | undefined },
): Promise<void> {
  const files = await openKeyFiles(folder, options.current)
  if ((await files.read('address.json', z.unknown())) === undefined) throw noKeys()
  await files.protect(options.password)
}

function noKeys(): LlmNodeError {
  return new LlmNodeError('NOT_SET_UP', 'This home has no keys yet.', { hint: 'llm-node id makes them.' })
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
