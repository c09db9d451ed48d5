import { LlmNodeError } from '../base/errors.ts'

/** The fields of one JSON object of config.json, read with checks that name the field. */
export interface ConfigFields {
  has(field: string): boolean
  /** The raw value; undefined when absent. `null` counts as a value. */
  raw(field: string): unknown
  /** A whole number in [min, max]; `fallback` when the field is absent or null. Throws MODEL_UNSUPPORTED. */
  whole(field: string, range: { min: number; max: number }, fallback?: number): number
  /** A finite number > 0; `fallback` when the field is absent or null. Throws MODEL_UNSUPPORTED. */
  positive(field: string, fallback?: number): number
  /** true or false; `fallback` when the field is absent or null. */
  flag(field: string, fallback: boolean): boolean
  /** `length` finite numbers > 0. */
  positives(field: string, length: number): number[]
  /** The object in `field`; null when it is absent or null. */
  object(field: string): ConfigFields | null
  /** An error about `field`, for the caller to throw. */
  refuse(field: string, why: string): LlmNodeError
}

/** `prefix` is what errors put before a field's name: '' for the top level, 'rope_scaling.' inside it. */
export function createConfigFields(value: unknown, prefix = ''): ConfigFields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new LlmNodeError('MODEL_UNSUPPORTED', `${prefix.slice(0, -1) || 'config.json'} is not a JSON object.`)
  }
  const entries = new Map<string, unknown>(Object.entries(value))
  const refuse = (field: string, why: string) =>
    new LlmNodeError('MODEL_UNSUPPORTED', `config.json: ${prefix}${field} ${why}.`, {
      hint: 'Choose a model of a supported family: Qwen3, Qwen2, Llama, Mistral or Phi-3.',
      meta: { field: `${prefix}${field}` },
    })
  const number = (field: string, fallback: number | undefined) => {
    const value = entries.get(field) ?? fallback
    if (value === undefined) throw refuse(field, 'is missing')
    if (typeof value !== 'number' || !Number.isFinite(value)) throw refuse(field, 'is not a number')
    return value
  }
  return {
    has: (field) => entries.has(field),
    raw: (field) => entries.get(field),
    whole(field, { min, max }, fallback) {
      const value = number(field, fallback)
      if (!Number.isInteger(value) || value < min || value > max) {
        throw refuse(field, `is ${value}, not a whole number from ${min} to ${max}`)
      }
      return value
    },
    positive(field, fallback) {
      const value = number(field, fallback)
      if (value <= 0) throw refuse(field, `is ${value}, not a positive number`)
      return value
    },
    flag(field, fallback) {
      const value = entries.get(field) ?? fallback
      if (typeof value !== 'boolean') throw refuse(field, 'is neither true nor false')
      return value
    },
    positives(field, length) {
      const list = entries.get(field)
      if (!Array.isArray(list) || list.length !== length) throw refuse(field, `is not a list of ${length} numbers`)
      return list.map((value: unknown) => {
        if (typeof value !== 'number' || !Number.isFinite(value) || value <= 0) {
          throw refuse(field, 'holds something other than positive numbers')
        }
        return value
      })
    },
    object(field) {
      const value = entries.get(field)
      return value === undefined || value === null ? null : createConfigFields(value, `${prefix}${field}.`)
    },
    refuse,
  }
}
