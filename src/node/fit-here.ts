import { downloadLimits } from '../base/limits.ts'
import { type Fit, type FitRequest, fitLayers } from '../coverage/fit.ts'
import type { ModelSpec } from '../model/spec.ts'
import type { MachineNow } from './detect.ts'
import { kvTokensWanted, processBytes } from './memory-check.ts'
import type { ModelFigures } from './model-figures.ts'

export interface FitHere {
  readonly figures: ModelFigures
  readonly spec: ModelSpec
  readonly machine: Pick<MachineNow, 'memory' | 'disk'>
  readonly ends: boolean
  /** What files of this model take of the disk already. */
  readonly heldBytes?: number
}

/** How many layers fit this machine, and what stops more. Pure. */
export function fitHere(facts: FitHere): Fit {
  return fitLayers(fitRequest(facts))
}

/** The machine as `fitLayers` counts with it. Pure. */
export function fitRequest({ figures, spec, machine, ends, heldBytes = 0 }: FitHere): FitRequest {
  const { packedBytes, memoryBytes } = figures.ends
  const freeBytes = (machine.disk?.freeBytes ?? Number.POSITIVE_INFINITY) + heldBytes
  return {
    nLayers: spec.nLayers,
    layer: figures.layer,
    ends: ends ? { memoryBytes, diskBytes: packedBytes } : null,
    kvTokens: kvTokensWanted(spec),
    processBytes,
    memoryBytes: machine.memory.totalBytes,
    diskBytes: Math.max(0, freeBytes - downloadLimits.diskSpareBytes),
  }
}
