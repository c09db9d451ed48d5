import type { ModelSpec } from '../model/spec.ts'
import type { OrtRuntime, OrtTensor } from './ort.ts'
import { type RopeFactors, ropeTable } from './rope.ts'

/** f32 [rows, rotaryDim / 2] each. */
interface RopeTensors {
  readonly rows: number
  readonly cos: OrtTensor
  readonly sin: OrtTensor
}

/** The rotation tables, as long as the longest session needs them; sessions on an older, shorter one keep it alive. */
export interface RopeTables {
  /** Tables of at least `rows` positions. */
  get(factors: RopeFactors, rows: number): RopeTensors
  release(): void
}

export function createRopeTables(spec: ModelSpec, ort: Pick<OrtRuntime, 'createTensor'>): RopeTables {
  const tables = new Map<RopeFactors, RopeTensors>()
  const create = (factors: RopeFactors, rows: number): RopeTensors => {
    const table = ropeTable(spec.rope, factors, rows)
    const dims = [rows, spec.rope.rotaryDim / 2]
    const cos = ort.createTensor('f32', dims)
    const sin = ort.createTensor('f32', dims)
    new Float32Array(cos.memory).set(table.cos)
    new Float32Array(sin.memory).set(table.sin)
    return { rows, cos, sin }
  }
  const drop = (table: RopeTensors | undefined) => {
    table?.cos.release()
    table?.sin.release()
  }
  return {
    get(factors: RopeFactors, rows: number): RopeTensors {
      const known = tables.get(factors)
      if (known !== undefined && known.rows >= rows) return known
      const table = create(factors, rows)
      drop(known)
      tables.set(factors, table)
      return table
    },
    release() {
      for (const table of tables.values()) drop(table)
      tables.clear()
    },
  }
}
