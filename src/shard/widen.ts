import { LlmNodeError } from '../base/errors.ts'

/** The dtypes that weights are published in; all widen to f32 exactly. */
export type SourceDtype = 'BF16' | 'F16' | 'F32'

export function isSourceDtype(dtype: string): dtype is SourceDtype {
  return dtype === 'BF16' || dtype === 'F16' || dtype === 'F32'
}

export function sourceBytes(dtype: SourceDtype): 2 | 4 {
  return dtype === 'F32' ? 4 : 2
}

/**
 * Widens little-endian values to f32 into `out[0 … count)`, count = bytes / bytes per value. Exact: every BF16 and F16
 * is an f32. Throws MODEL_CORRUPT naming `tensor` on an infinity or NaN, which no trained weight is.
 */
export function widen(dtype: SourceDtype, bytes: Uint8Array, out: Float32Array, tensor: string): void {
  const size = sourceBytes(dtype)
  const count = bytes.length / size
  // A typed array needs an aligned start; bytes cut from a larger buffer may not have one.
  const aligned = bytes.byteOffset % size === 0 ? bytes : bytes.slice()
  const bits = new Uint32Array(out.buffer, out.byteOffset, count)
  let sound = true
  if (dtype === 'F32') {
    bits.set(new Uint32Array(aligned.buffer, aligned.byteOffset, count))
    for (let i = 0; i < count; i++) if (((bits[i] ?? 0) & 0x7f80_0000) === 0x7f80_0000) sound = false
  } else {
    const halves = new Uint16Array(aligned.buffer, aligned.byteOffset, count)
    sound = dtype === 'BF16' ? widenBf16(halves, bits) : widenF16(halves, bits)
  }
  if (!sound) {
    throw new LlmNodeError('MODEL_CORRUPT', `${tensor} holds a value that is not finite.`, { meta: { tensor } })
  }
}

function widenBf16(halves: Uint16Array, bits: Uint32Array): boolean {
  let sound = true
  for (let i = 0; i < halves.length; i++) {
    const half = halves[i] ?? 0
    if ((half & 0x7f80) === 0x7f80) sound = false
    bits[i] = half << 16
  }
  return sound
}

let f16Table: Uint32Array | undefined

function widenF16(halves: Uint16Array, bits: Uint32Array): boolean {
  f16Table ??= createF16Table()
  let sound = true
  for (let i = 0; i < halves.length; i++) {
    const half = halves[i] ?? 0
    if ((half & 0x7c00) === 0x7c00) sound = false
    bits[i] = f16Table[half] ?? 0
  }
  return sound
}

/** f32 bits of every f16: 256 KiB, made once, faster than decoding subnormals one by one. */
function createF16Table(): Uint32Array {
  const values = new Float32Array(65_536)
  for (let half = 0; half < 65_536; half++) {
    const exponent = (half >> 10) & 31
    const mantissa = half & 1023
    const size = exponent === 0 ? mantissa * 2 ** -24 : (1024 + mantissa) * 2 ** (exponent - 25)
    values[half] = half & 0x8000 ? -size : size
  }
  return new Uint32Array(values.buffer)
}
