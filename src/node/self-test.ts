import { join } from 'node:path'
import { toHex } from '../base/bytes.ts'
import type { Config, ModelEntry } from '../base/config.ts'
import { LlmNodeError } from '../base/errors.ts'
import { type LayerCost, measureLayerCost } from '../pipeline/measure.ts'
import { openHolding, verifyModel } from '../shard/holding.ts'
import { createSpanRunner } from '../shard/runner.ts'
import { chooseEngine } from './engine-choice.ts'
import type { Home } from './home.ts'
import { detectShare } from './share.ts'

/** What a set-up ends with: proof that the engine runs here and that what was fetched is what it should be. */
export interface SelfTest {
  /** Hexadecimal: nodes of one class compute the same bits. */
  readonly numericsClass: string
  /** What computes here. */
  readonly provider: 'cpu' | 'cuda'
  /** What the owner should know about it. */
  readonly notes: readonly string[]
  /** The layer that was compared with its hash and run; null when none is held. */
  readonly layer: number | null
  /** Of that layer, measured with its own weights. */
  readonly cost: LayerCost | null
}

/** Room for the keys and values of the few tokens that are tried. */
const KV_BYTES = 64 * 1_048_576

/** About a second. Throws ENGINE_UNAVAILABLE, ENGINE_FAILED, MODEL_CORRUPT (the layer is not what its hash says). */
export async function selfTest(
  home: Home,
  config: Pick<Config, 'engine' | 'share'>,
  entry: Pick<ModelEntry, 'name' | 'folder'>,
  options: { signal?: AbortSignal } = {},
): Promise<SelfTest> {
  const holding = await openHolding(join(home.modelsFolder, entry.folder))
  const { spec, recipe } = holding
  const { cpu } = await detectShare(home, config)
  const { library, provider, threads, exam, notes } = await chooseEngine(config.engine, holding, cpu.cores)
  const found = toHex(exam.numericsClass)
  const [held] = holding.layers.values()
  if (held === undefined) return { numericsClass: found, provider, notes, layer: null, cost: null }
  const { sound } = await verifyModel(holding.folder, { ...options, only: held.path })
  if (!sound) {
    throw new LlmNodeError('MODEL_CORRUPT', `Layer ${held.layer} of ${entry.name} is not what was fetched.`, {
      hint: 'Look after the disk, then fetch it again: llm-node models verify --repair',
    })
  }
  const runner = await createSpanRunner({
    spec,
    recipe,
    span: { start: held.layer, end: held.layer + 1 },
    layerFiles: [held.path],
    threads,
    kvBudgetBytes: KV_BYTES,
    library,
    provider,
  })
  try {
    return { numericsClass: found, provider, notes, layer: held.layer, cost: await measureLayerCost(runner) }
  } finally {
    await runner.close()
  }
}
