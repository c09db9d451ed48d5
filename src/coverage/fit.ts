/** How much of a model fits a machine (swarm.md §4). Pure; all figures in bytes. */

/** Left free of what the machine offers, for everything that nobody foresaw. */
const memoryHeadroom = 0.2

export interface FitRequest {
  readonly nLayers: number
  readonly layer: {
    /** Packed: on the disk, and in memory once it is loaded. */
    readonly packedBytes: number
    /** In memory beside the weights: the layer's share of what the engine builds around them. */
    readonly graphBytes?: number
    /** As the source has it: lies beside the packed files while they are made. */
    readonly rawBytes: number
    /** Keys and values of one token. */
    readonly kvBytesPerToken: number
  }
  /** Embedding, norm and head, when this node holds them; null: not. */
  readonly ends: { readonly memoryBytes: number; readonly diskBytes: number } | null
  /** Tokens of all sessions together that shall find room. */
  readonly kvTokens: number
  /** The program without any layer. */
  readonly processBytes: number
  /** May be used in all, before the headroom is taken off. */
  readonly memoryBytes: number
  readonly diskBytes: number
}

export interface MemoryShares {
  readonly weightsBytes: number
  readonly endsBytes: number
  readonly kvBytes: number
  readonly processBytes: number
  readonly totalBytes: number
}

export interface Fit {
  /** 0: not even one. */
  readonly layers: number
  readonly limitedBy: 'model' | 'memory' | 'disk'
}

/** Source files of at most this many layers lie on the disk at once while packing (src/shard/download). */
const rawLayersOnDisk = 3

export function memoryFor(layers: number, request: FitRequest): MemoryShares {
  const { layer, ends, kvTokens, processBytes } = request
  const weightsBytes = layers * layer.packedBytes
  const kvBytes = layers * layer.kvBytesPerToken * kvTokens
  const endsBytes = ends?.memoryBytes ?? 0
  const around = processBytes + layers * (layer.graphBytes ?? 0)
  const totalBytes = weightsBytes + endsBytes + kvBytes + around
  return { weightsBytes, endsBytes, kvBytes, processBytes: around, totalBytes }
}

/** What of `memoryBytes` a plan may count on. */
export function usableMemory(memoryBytes: number): number {
  return memoryBytes * (1 - memoryHeadroom)
}

export function diskFor(layers: number, { layer, ends }: FitRequest): number {
  return layers * layer.packedBytes + Math.min(layers, rawLayersOnDisk) * layer.rawBytes + (ends?.diskBytes ?? 0)
}

/** The most layers whose weights, KV and files find room. Both grow with every layer, so halving finds it. */
export function fitLayers(request: FitRequest): Fit {
  const inMemory = (layers: number) => memoryFor(layers, request).totalBytes <= usableMemory(request.memoryBytes)
  const onDisk = (layers: number) => diskFor(layers, request) <= request.diskBytes
  const layers = mostOf(request.nLayers, (count) => inMemory(count) && onDisk(count))
  if (layers === request.nLayers) return { layers, limitedBy: 'model' }
  return { layers, limitedBy: inMemory(layers + 1) ? 'disk' : 'memory' }
}

function mostOf(max: number, fits: (count: number) => boolean): number {
  let low = 0
  let high = max
  while (low < high) {
    const middle = Math.ceil((low + high) / 2)
    if (fits(middle)) low = middle
    else high = middle - 1
  }
  return low
}

/**
 * Bytes for KV when `weightsBytes` are loaded into what is free now: as wanted, or what is left. Undefined when not even
 * `leastKvBytes` are.
 */
export function kvBudget(request: {
  readonly freeBytes: number
  readonly weightsBytes: number
  readonly wantedKvBytes: number
  readonly leastKvBytes: number
}): number | undefined {
  const left = usableMemory(request.freeBytes) - request.weightsBytes
  return left < request.leastKvBytes ? undefined : Math.min(request.wantedKvBytes, Math.floor(left))
}
