import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import koffi from 'koffi'
import { isLlmNodeError, LlmNodeError } from '../base/errors.ts'
import { openOrt, type Provider } from './ort.ts'
import { bundledLibraryPath } from './ort-library.ts'
import { examineEngine } from './probe.ts'
import type { RecipeId } from './recipe.ts'

/** `auto`: a GPU where one can be used, otherwise the processor. */
export type ProviderChoice = Provider | 'auto'

export interface ChosenProvider {
  readonly provider: Provider
  /** With `auto`: why no GPU is used. Otherwise null. */
  readonly reason: string | null
}

export interface ProviderDeps {
  /** Throws with the reason when the GPU cannot be used for this recipe. */
  readonly assertCuda: (recipe: RecipeId, library: string | undefined) => Promise<void>
}

/**
 * What shall compute a model held in `recipe`. A GPU is taken only after it has computed a layer here. Throws
 * ENGINE_UNAVAILABLE with the reason when CUDA was demanded and cannot be used.
 */
export async function chooseProvider(
  wanted: ProviderChoice,
  recipe: RecipeId,
  options: { readonly library?: string | undefined } = {},
  deps: ProviderDeps = { assertCuda },
): Promise<ChosenProvider> {
  if (wanted === 'cpu') return { provider: 'cpu', reason: null }
  try {
    await deps.assertCuda(recipe, options.library)
    return { provider: 'cuda', reason: null }
  } catch (error) {
    if (wanted === 'cuda' || !isLlmNodeError(error)) throw error
    return { provider: 'cpu', reason: error.message }
  }
}

async function assertCuda(recipe: RecipeId, library: string | undefined): Promise<void> {
  if (recipe === 'i8/1') {
    throw new LlmNodeError('ENGINE_UNAVAILABLE', 'The recipe i8 is for processors; a GPU computes q4, q8 and f32.', {
      hint: 'Fetch the model again with llm-node setup --recipe q4, or take --provider cpu.',
    })
  }
  const path = library ?? bundledLibraryPath()
  try {
    openOrt(library).checkProvider('cuda')
  } catch (cause) {
    const reason = missingPart(path) ?? (cause instanceof Error ? cause.message : String(cause))
    throw new LlmNodeError('ENGINE_UNAVAILABLE', `CUDA cannot be used: ${reason}.`, {
      hint: 'docs/gpu.md says what has to be installed; --provider cpu needs nothing more.',
      cause,
    })
  }
  try {
    await examineEngine(recipe, { library, provider: 'cuda' })
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new LlmNodeError('ENGINE_UNAVAILABLE', `The GPU does not compute a layer: ${reason}`, {
      hint: 'Look after the NVIDIA driver with nvidia-smi, or take --provider cpu.',
      cause,
    })
  }
}

/** The file that CUDA lacks, where that can be told; ONNX Runtime itself only says that something could not be loaded. */
function missingPart(library: string): string | undefined {
  if (process.platform !== 'linux' && process.platform !== 'win32') return `there is no CUDA for ${process.platform}`
  const name = process.platform === 'win32' ? 'onnxruntime_providers_cuda.dll' : 'libonnxruntime_providers_cuda.so'
  const path = join(dirname(library), name)
  if (!existsSync(path)) return `${name} is not beside ${library}`
  try {
    koffi.load(path)
    return undefined
  } catch (error) {
    return /([\w.+-]+: cannot open shared object file)/.exec(String(error))?.[1]
  }
}
