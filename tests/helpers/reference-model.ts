/**
 * A decoder in double precision, written from the published definition of each family and not from this program's own
 * way of reading a config: what the engine has to agree with where no golden model covers a feature.
 */

export type Config = Readonly<Record<string, unknown>>

/** [rows, columns], or a vector with one row. */
export interface Matrix {
  readonly rows: number
  readonly columns: number
  readonly data: Float64Array
}

export type Weights = (name: string) => Matrix | undefined

interface Shape {
  readonly hidden: number
  readonly heads: number
  readonly kvHeads: number
  readonly headDim: number
  readonly layers: number
  readonly eps: number
}

const numberOf = (config: Config, field: string, fallback: number) => {
  const value = config[field]
  return typeof value === 'number' ? value : fallback
}

function shapeOf(config: Config): Shape {
  const hidden = numberOf(config, 'hidden_size', 0)
  const heads = numberOf(config, 'num_attention_heads', 0)
  return {
    hidden,
    heads,
    kvHeads: numberOf(config, 'num_key_value_heads', heads),
    headDim: numberOf(config, 'head_dim', hidden / heads),
    layers: numberOf(config, 'num_hidden_layers', 0),
    eps: numberOf(config, 'rms_norm_eps', 1e-6),
  }
}

/** Logits of every position, [ids.length, vocab]. */
export function referenceLogits(config: Config, weights: Weights, ids: readonly number[]): Float64Array {
  const shape = shapeOf(config)
  const embedding = required(weights, 'model.embed_tokens.weight')
  let x = ids.map((id) => embedding.data.slice(id * shape.hidden, (id + 1) * shape.hidden))
  const rotation = rotationOf(config, shape, ids.length)
  for (let layer = 0; layer < shape.layers; layer++) {
    const at = `model.layers.${layer}`
    const normed = x.map((row) => rmsNorm(row, required(weights, `${at}.input_layernorm.weight`), shape.eps))
    const mixed = attention(normed, { config, shape, weights, rotation, at, layer })
    const summed = x.map((row, i) => plus(row, mixed[i] ?? row))
    const inner = summed.map((row) =>
      rmsNorm(row, required(weights, `${at}.post_attention_layernorm.weight`), shape.eps),
    )
    x = summed.map((row, i) => plus(row, feedForward(inner[i] ?? row, weights, at)))
  }
  const head = weights('lm_head.weight') ?? embedding
  const last = x.map((row) => times(head, undefined, rmsNorm(row, required(weights, 'model.norm.weight'), shape.eps)))
  const logits = new Float64Array(ids.length * head.rows)
  for (const [i, row] of last.entries()) logits.set(row, i * head.rows)
  return logits
}

interface LayerContext {
  readonly config: Config
  readonly shape: Shape
  readonly weights: Weights
  readonly rotation: Rotation
  readonly at: string
  readonly layer: number
}

function attention(x: readonly Float64Array[], context: LayerContext): Float64Array[] {
  const { config, shape, weights, at, layer } = context
  const { heads, kvHeads, headDim } = shape
  const [queries = [], keys = [], values = []] = project(x, context)
  const window = windowOf(config, layer)
  return x.map((_, i) => {
    const out = new Float64Array(heads * headDim)
    for (let head = 0; head < heads; head++) {
      const kv = Math.floor((head * kvHeads) / heads)
      const first = window === null ? 0 : Math.max(0, i - window + 1)
      const scores: number[] = []
      for (let j = first; j <= i; j++) {
        let dot = 0
        for (let d = 0; d < headDim; d++) {
          dot += (queries[i]?.[head * headDim + d] ?? 0) * (keys[j]?.[kv * headDim + d] ?? 0)
        }
        scores.push(dot / Math.sqrt(headDim))
      }
      const top = Math.max(...scores)
      const shares = scores.map((score) => Math.exp(score - top))
      const sum = shares.reduce((a, b) => a + b, 0)
      for (let d = 0; d < headDim; d++) {
        out[head * headDim + d] = shares.reduce(
          (a, s, n) => a + (s / sum) * (values[first + n]?.[kv * headDim + d] ?? 0),
          0,
        )
      }
    }
    return times(required(weights, `${at}.self_attn.o_proj.weight`), weights(`${at}.self_attn.o_proj.bias`), out)
  })
}

/** Queries and keys, normed and turned, and values. */
function project(x: readonly Float64Array[], { shape, weights, rotation, at }: LayerContext): Float64Array[][] {
  const { heads, kvHeads, headDim, eps } = shape
  const sizes = [heads * headDim, kvHeads * headDim, kvHeads * headDim]
  const fused = weights(`${at}.self_attn.qkv_proj.weight`)
  const parts = x.map((row) => {
    if (fused === undefined) {
      return ['q_proj', 'k_proj', 'v_proj'].map((name) =>
        times(required(weights, `${at}.self_attn.${name}.weight`), weights(`${at}.self_attn.${name}.bias`), row),
      )
    }
    const all = times(fused, undefined, row)
    const [q = 0, k = 0] = sizes
    return [all.slice(0, q), all.slice(q, q + k), all.slice(q + k)]
  })
  const prepared = (part: number, norm: string, position: number, count: number) => {
    const row = parts[position]?.[part] ?? new Float64Array()
    const weight = weights(`${at}.self_attn.${norm}.weight`)
    for (let head = 0; head < count; head++) {
      const slice = row.subarray(head * headDim, (head + 1) * headDim)
      if (weight !== undefined) slice.set(rmsNorm(slice, weight, eps))
      turn(slice, rotation, position)
    }
    return row
  }
  return [
    x.map((_, i) => prepared(0, 'q_norm', i, heads)),
    x.map((_, i) => prepared(1, 'k_norm', i, kvHeads)),
    parts.map(([, , v]) => v ?? new Float64Array()),
  ]
}

function feedForward(row: Float64Array, weights: Weights, at: string): Float64Array {
  const fused = weights(`${at}.mlp.gate_up_proj.weight`)
  const both =
    fused === undefined
      ? ['gate_proj', 'up_proj'].map((name) =>
          times(required(weights, `${at}.mlp.${name}.weight`), weights(`${at}.mlp.${name}.bias`), row),
        )
      : halves(times(fused, undefined, row))
  const [gate = row, up = row] = both
  const inner = gate.map((g, i) => (g / (1 + Math.exp(-g))) * (up[i] ?? 0))
  return times(required(weights, `${at}.mlp.down_proj.weight`), weights(`${at}.mlp.down_proj.bias`), inner)
}

/** Positions q − w + 1 … q; null: all. */
function windowOf(config: Config, layer: number): number | null {
  const window = typeof config.sliding_window === 'number' ? config.sliding_window : null
  if (config.model_type === 'mistral' || config.model_type === 'phi3') return window
  if (config.model_type === 'llama' || config.use_sliding_window !== true) return null
  if (Array.isArray(config.layer_types)) return config.layer_types[layer] === 'sliding_attention' ? window : null
  return layer >= numberOf(config, 'max_window_layers', 28) ? window : null
}

interface Rotation {
  /** Radians per position of each pair. */
  readonly speeds: readonly number[]
  /** On cosine and sine. */
  readonly gain: number
}

function rotationOf(config: Config, { headDim }: Shape, length: number): Rotation {
  const nested = (config.rope_parameters ?? config.rope_scaling ?? {}) as Config
  const theta = numberOf(nested, 'rope_theta', numberOf(config, 'rope_theta', 10_000))
  const share = numberOf(nested, 'partial_rotary_factor', numberOf(config, 'partial_rotary_factor', 1))
  const dim = Math.floor(headDim * share)
  const plain = Array.from({ length: dim / 2 }, (_, i) => theta ** ((-2 * i) / dim))
  const type = String(nested.rope_type ?? nested.type ?? 'default')
  const factor = numberOf(nested, 'factor', 1)
  const context = numberOf(config, 'max_position_embeddings', 0)
  const original = numberOf(nested, 'original_max_position_embeddings', context)
  if (type === 'linear') return { speeds: plain.map((speed) => speed / factor), gain: 1 }
  if (type === 'llama3') {
    const [low, high] = [numberOf(nested, 'low_freq_factor', 1), numberOf(nested, 'high_freq_factor', 4)]
    const speeds = plain.map((speed) => {
      const turns = (original * speed) / (2 * Math.PI)
      if (turns < low) return speed / factor
      if (turns > high) return speed
      const smooth = (turns - low) / (high - low)
      return ((1 - smooth) * speed) / factor + smooth * speed
    })
    return { speeds, gain: 1 }
  }
  if (type === 'yarn') {
    const dimOf = (turns: number) => (dim * Math.log(original / (turns * 2 * Math.PI))) / (2 * Math.log(theta))
    const round = nested.truncate !== false
    const from = Math.max(0, round ? Math.floor(dimOf(numberOf(nested, 'beta_fast', 32))) : dimOf(32))
    const to = Math.min(dim - 1, round ? Math.ceil(dimOf(numberOf(nested, 'beta_slow', 1))) : dimOf(1))
    const speeds = plain.map((speed, i) => {
      const ramp = Math.min(1, Math.max(0, (i - from) / (to === from ? 0.001 : to - from)))
      return (speed / factor) * ramp + speed * (1 - ramp)
    })
    return { speeds, gain: numberOf(nested, 'attention_factor', 0.1 * Math.log(factor) + 1) }
  }
  if (type === 'longrope') {
    const short = numberOf(config, 'original_max_position_embeddings', 4_096)
    const list = (length > short ? nested.long_factor : nested.short_factor) as number[]
    const ratio = context / short
    const gain = ratio <= 1 ? 1 : Math.sqrt(1 + Math.log(ratio) / Math.log(short))
    return { speeds: plain.map((speed, i) => speed / (list[i] ?? 1)), gain }
  }
  return { speeds: plain, gain: 1 }
}

/** Pairs (i, i + half) of the first dimensions. */
function turn(head: Float64Array, { speeds, gain }: Rotation, position: number): void {
  const half = speeds.length
  for (const [i, speed] of speeds.entries()) {
    const [cos, sin] = [gain * Math.cos(position * speed), gain * Math.sin(position * speed)]
    const [a, b] = [head[i] ?? 0, head[i + half] ?? 0]
    head[i] = a * cos - b * sin
    head[i + half] = b * cos + a * sin
  }
}

function required(weights: Weights, name: string): Matrix {
  const found = weights(name)
  if (found === undefined) throw new Error(`no ${name}`)
  return found
}

function rmsNorm(row: Float64Array, weight: Matrix, eps: number): Float64Array {
  const mean = row.reduce((sum, value) => sum + value * value, 0) / row.length
  const scale = 1 / Math.sqrt(mean + eps)
  return row.map((value, i) => value * scale * (weight.data[i] ?? 0))
}

/** W · x + b. */
function times({ rows, columns, data }: Matrix, bias: Matrix | undefined, x: Float64Array): Float64Array {
  const out = new Float64Array(rows)
  for (let row = 0; row < rows; row++) {
    let sum = bias?.data[row] ?? 0
    for (let i = 0; i < columns; i++) sum += (data[row * columns + i] ?? 0) * (x[i] ?? 0)
    out[row] = sum
  }
  return out
}

const plus = (a: Float64Array, b: Float64Array) => a.map((value, i) => value + (b[i] ?? 0))
const halves = (x: Float64Array) => [x.slice(0, x.length / 2), x.slice(x.length / 2)]
