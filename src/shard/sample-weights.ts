import { createWriteStream } from 'node:fs'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { createRandom } from '../base/random.ts'
import { packedAlignment } from './pack.ts'
import type { RecipeId } from './recipe.ts'
import { encodeSafetensorsHeader, type TensorDeclaration, tensorBytes } from './safetensors.ts'

/**
 * Writes a packed file with random weights, for measuring: as large and as fast as a real one. Same seed, same bytes.
 * `tensors` as declareLayer or declareEnds give them.
 */
export async function writeSampleWeights(
  path: string,
  tensors: readonly TensorDeclaration[],
  recipe: RecipeId,
  seed: number,
): Promise<void> {
  const random = createRandom(seed)
  const parts = function* () {
    yield encodeSafetensorsHeader(tensors, { alignment: packedAlignment, metadata: { recipe } })
    for (const tensor of tensors) yield sampleValues(tensor, recipe, random)
  }
  await pipeline(Readable.from(parts()), createWriteStream(path))
}

/** Norms around 1, scales that keep a product about as large as its input, integers of the whole range. */
function sampleValues(tensor: TensorDeclaration, recipe: RecipeId, random: () => number): Uint8Array {
  const bytes = new Uint8Array(tensorBytes(tensor.dtype, tensor.shape))
  if (tensor.dtype !== 'F32') {
    const words = new Uint32Array(bytes.buffer, 0, bytes.length >> 2)
    // BF16 bit patterns with an exponent around 1: small finite numbers.
    const mask = tensor.dtype === 'BF16' ? 0x80ff80ff : 0xffffffff
    const base = tensor.dtype === 'BF16' ? 0x3c003c00 : 0
    for (let i = 0; i < words.length; i++) words[i] = (random() & mask) | base
    if (tensor.dtype === 'I8') for (let i = 0; i < bytes.length; i++) if (bytes[i] === 128) bytes[i] = 129
    return bytes
  }
  const floats = new Float32Array(bytes.buffer)
  const isScale = tensor.name.endsWith('.scales')
  const isMatrix = tensor.name.endsWith('.weight')
  const unit = recipe === 'i8/1' ? 1 / 73 / 32 : 1 / 4.6 / 32
  const spread = isMatrix ? Math.sqrt(3 / (tensor.shape[0] ?? 1)) : 0
  for (let i = 0; i < floats.length; i++) {
    const share = random() / 2 ** 32
    if (isMatrix) floats[i] = spread * (2 * share - 1)
    else floats[i] = isScale ? unit * (0.9 + 0.2 * share) : 0.8 + 0.4 * share
  }
  return bytes
}
