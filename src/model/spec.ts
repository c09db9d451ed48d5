/** How positions turn into rotations; the cos/sin tables are computed from this alone (src/shard). */
export interface RopeSpec {
  readonly theta: number
  /** Dimensions of a head that turn: headDim, or fewer with partial_rotary_factor. Even. */
  readonly rotaryDim: number
  readonly scaling:
    | { readonly type: 'default' }
    | { readonly type: 'linear'; readonly factor: number }
    | {
        readonly type: 'llama3'
        readonly factor: number
        readonly lowFreqFactor: number
        readonly highFreqFactor: number
        readonly originalMaxPosition: number
      }
    | {
        readonly type: 'longrope'
        readonly shortFactor: readonly number[]
        readonly longFactor: readonly number[]
        readonly originalMaxPosition: number
        readonly attentionFactor: number
      }
    | {
        readonly type: 'yarn'
        readonly factor: number
        readonly originalMaxPosition: number
        readonly betaFast: number
        readonly betaSlow: number
        readonly truncate: boolean
        readonly attentionFactor: number
      }
}

/** The matrices of a layer as the engine multiplies them: x[rows, k] · W[k, n]. */
export type LinearRole = 'qkv' | 'o' | 'gate_up' | 'down'
/** The vectors of a layer. */
export type VectorRole = 'attn_norm' | 'mlp_norm' | 'q_norm' | 'k_norm' | 'final_norm'

/** A slice of rows of a source tensor: [rows.start, rows.end) of `name`, whose full shape is `shape` (row-major). */
export interface TensorSource {
  readonly name: string
  readonly shape: readonly number[]
  readonly rows?: { readonly start: number; readonly end: number }
}

/** One matrix: the sources are stacked in order along their rows, so n = the sum of their rows, k their columns. */
export interface LinearSpec {
  readonly role: LinearRole
  readonly k: number
  readonly n: number
  readonly weight: readonly TensorSource[]
  /** Empty when the matrix has no bias; otherwise as many entries as `weight`. */
  readonly bias: readonly TensorSource[]
}

export interface VectorSpec {
  readonly role: VectorRole
  readonly length: number
  readonly source: TensorSource
}

export interface LayerSpec {
  readonly linears: readonly LinearSpec[]
  readonly vectors: readonly VectorSpec[]
  /** Attention sees positions q − w + 1 … q; null sees all. */
  readonly slidingWindow: number | null
}

/** Everything the engine needs to know of a model, from config.json alone. Pure data. */
export interface ModelSpec {
  readonly family: string
  readonly nLayers: number
  readonly hiddenSize: number
  readonly nHeads: number
  readonly nKvHeads: number
  readonly headDim: number
  readonly intermediateSize: number
  readonly vocabSize: number
  readonly rmsNormEps: number
  readonly maxContext: number
  readonly rope: RopeSpec
  readonly qkNorm: boolean
  /** The head is the embedding unless the weights say otherwise (an unequal stored lm_head wins). */
  readonly tiedEmbeddings: boolean
  readonly endTokens: readonly number[]
  readonly layers: readonly LayerSpec[]
  readonly embedding: TensorSource
  readonly finalNorm: VectorSpec
  readonly head: TensorSource
}
