import { join } from 'node:path'
import type { Config, ModelEntry } from '../base/config.ts'
import { isLlmNodeError, LlmNodeError } from '../base/errors.ts'
import type { Logger } from '../base/logger.ts'
import { parseSpan, spanLength } from '../base/span.ts'
import { verifyModel } from '../shard/holding.ts'
import { type ModelManifest, readManifest } from '../shard/manifest.ts'
import type { Home } from './home.ts'
import { completeModel } from './models.ts'

/** Read and hashed at a start, about 2 s; of larger models `models verify` reads the rest. */
const hashedBytes = 2e9

/**
 * Before a start: every layer is compared with the hash that it had when it was made, and what is damaged or gone is
 * fetched again, alone. Throws MODEL_CORRUPT with what is damaged when it is not to be had.
 */
export async function repairModels(
  home: Home,
  config: Pick<Config, 'models'>,
  run: { signal: AbortSignal; logger: Logger },
): Promise<void> {
  let bytesLeft = hashedBytes
  for (const entry of config.models) {
    const { name, folder } = entry
    const path = join(home.modelsFolder, folder)
    const manifest = await readManifest(path)
    // A model that is not there at all is not repaired in silence: loading it says so.
    if (manifest === null) continue
    const bytes = [...manifest.layers, ...(manifest.ends === null ? [] : [manifest.ends])].reduce(
      (sum, file) => sum + file.bytes,
      0,
    )
    if (bytes > bytesLeft) continue
    bytesLeft -= bytes
    const { sound, files } = await verifyModel(path, { forget: true, signal: run.signal })
    // An earlier start may have struck a file from the manifest without being able to fetch it.
    if (sound && isComplete(entry, manifest)) continue
    const bad = files.filter(({ state }) => state !== 'sound').map((file) => file.name)
    run.logger.warn({ model: name, files: bad }, 'damaged files are fetched again')
    await completeModel(home, name, run).catch((error: unknown) => {
      throw notMended(name, bad, error)
    })
  }
}

function notMended(model: string, bad: readonly string[], error: unknown): unknown {
  if (!isLlmNodeError(error) || error.code === 'ABORTED') return error
  const what = bad.length === 0 ? `${model} is not complete` : `${bad.join(', ')} of ${model}: damaged`
  return new LlmNodeError('MODEL_CORRUPT', `${what}, and cannot be fetched again: ${error.message}`, {
    hint: `${error.hint ?? ''} Or fetch it from elsewhere: llm-node setup --model …`.trim(),
    cause: error,
  })
}

function isComplete({ layers, ends }: ModelEntry, manifest: ModelManifest): boolean {
  const wanted = layers === null ? 0 : spanLength(parseSpan(layers))
  return manifest.layers.length >= wanted && (!ends || manifest.ends !== null)
}
