/** The ends of a model: token embedding before the first layer, final norm and head after the last. */
export interface ModelEnds {
  /** Rows of the embedding, widened to f32 exactly: [ids.length, hiddenSize]. Throws BAD_INPUT on an id ≥ vocabSize. */
  embed(ids: readonly number[]): Promise<Float32Array>
  /** Final norm and head over hidden [n, hiddenSize] → logits [n, vocabSize]. One way for every caller (engine.md §6.1). */
  logits(hidden: Float32Array): Promise<Float32Array>
  close(): Promise<void>
}
