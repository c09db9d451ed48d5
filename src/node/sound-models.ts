import { join } from 'node:path'
import type { Config } from '../base/config.ts'
import { isLlmNodeError } from '../base/errors.ts'
import type { Logger } from '../base/logger.ts'
import { verifyModel } from '../shard/holding.ts'
import { readManifest } from '../shard/manifest.ts'
import type { Home } from './home.ts'
import { completeModel } from './models.ts'

/** Read and hashed at a start, about 2 s; of larger models `models verify` reads the rest. */
const hashedBytes = 2e9

/**
 * Before a start: every layer is compared with the hash that it had when it was made, and what is damaged or gone is
 * fetched again, alone. Throws what the download throws when it is not to be had.
 */
export async function repairModels(
  home: Home,
  config: Pick<Config, 'models'>,
  run: { signal: AbortSignal; logger: Logger },
): Promise<void> {
  let bytesLeft = hashedBytes
  for (const { name, folder } of config.models) {
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
    if (sound) continue
    const bad = files.filter(({ state }) => state !== 'sound').map((file) => file.name)
    run.logger.warn({ model: name, files: bad }, 'damaged files are fetched again')
    await completeModel(home, name, run).catch((error: unknown) => {
      if (isLlmNodeError(error)) run.logger.error({ model: name }, error.message)
      throw error
    })
  }
}
