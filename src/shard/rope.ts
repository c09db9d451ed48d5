import type { RopeSpec } from '../model/spec.ts'

/** Which factors a longrope model takes: `long` once a sequence exceeds its original context (engine.md §1). */
export type RopeFactors = 'short' | 'long'

/** Rotations for positions 0 … rows − 1: [rows, rotaryDim / 2] f32 each, row-major. */
export interface RopeTable {
  readonly rows: number
  readonly cos: Float32Array
  readonly sin: Float32Array
}

/**
 * Angle per position of each pair of dimensions: rotaryDim / 2 values. Formulas: RoFormer (arXiv 2104.09864) with the
 * scalings of linear position interpolation (2306.15595), Llama 3.1, LongRoPE (2402.13753) and YaRN (2309.00071), as
 * the models of these families were trained with.
 */
export function ropeFrequencies(rope: RopeSpec, factors: RopeFactors): Float64Array {
  const pairs = rope.rotaryDim / 2
  const plain = Float64Array.from({ length: pairs }, (_, i) => rope.theta ** (-i / pairs))
  const { scaling } = rope
  switch (scaling.type) {
    case 'default':
      return plain
    case 'linear':
      return plain.map((frequency) => frequency / scaling.factor)
    case 'llama3':
      return plain.map((frequency) => {
        const turns = (scaling.originalMaxPosition * frequency) / (2 * Math.PI)
        const span = scaling.highFreqFactor - scaling.lowFreqFactor
        const keep = Math.min(1, Math.max(0, (turns - scaling.lowFreqFactor) / span))
        return keep * frequency + ((1 - keep) * frequency) / scaling.factor
      })
    case 'longrope': {
      const divisors = factors === 'long' ? scaling.longFactor : scaling.shortFactor
      return plain.map((frequency, i) => frequency / (divisors[i] ?? 1))
    }
    case 'yarn':
      return yarnFrequencies(plain, rope.theta, rope.rotaryDim, scaling)
  }
}

/** YaRN: fast pairs keep their frequency, slow ones are interpolated, with a ramp between (arXiv 2309.00071, §3.2). */
function yarnFrequencies(
  plain: Float64Array,
  theta: number,
  rotaryDim: number,
  scaling: Extract<RopeSpec['scaling'], { type: 'yarn' }>,
): Float64Array {
  const pairAtTurns = (turns: number) =>
    (rotaryDim * Math.log(scaling.originalMaxPosition / (turns * 2 * Math.PI))) / (2 * Math.log(theta))
  const [first, last] = [pairAtTurns(scaling.betaFast), pairAtTurns(scaling.betaSlow)]
  const low = Math.max(0, scaling.truncate ? Math.floor(first) : first)
  const high = Math.min(rotaryDim - 1, scaling.truncate ? Math.ceil(last) : last)
  const width = high === low ? 0.001 : high - low
  return plain.map((frequency, i) => {
    const interpolated = Math.min(1, Math.max(0, (i - low) / width))
    return (frequency / scaling.factor) * interpolated + frequency * (1 - interpolated)
  })
}

/** Computed in float64, rounded once to f32: every node gets the same tables. */
export function ropeTable(rope: RopeSpec, factors: RopeFactors, rows: number): RopeTable {
  const frequencies = ropeFrequencies(rope, factors)
  const pairs = frequencies.length
  const { scaling } = rope
  const magnitude = scaling.type === 'longrope' || scaling.type === 'yarn' ? scaling.attentionFactor : 1
  const cos = new Float32Array(rows * pairs)
  const sin = new Float32Array(rows * pairs)
  for (let position = 0; position < rows; position++) {
    for (let i = 0; i < pairs; i++) {
      const angle = position * (frequencies[i] ?? 0)
      cos[position * pairs + i] = Math.cos(angle) * magnitude
      sin[position * pairs + i] = Math.sin(angle) * magnitude
    }
  }
  return { rows, cos, sin }
}

/** The last position + 1 that the short factors of a longrope model serve; null: there is no such limit. */
export function shortFactorLimit(rope: RopeSpec): number | null {
  return rope.scaling.type === 'longrope' ? rope.scaling.originalMaxPosition : null
}
