import { toHex } from '../base/bytes.ts'
import type { Timers } from '../base/timers.ts'
import type { RingOptions } from './ring.ts'
import type { PreparedRing } from './ring-builder.ts'
import type { OnionLimits } from './types.ts'

/** Circuits that were built before anybody needed them: each serves one ring, which then has its keys and KV. */
export interface ReadyRings {
  /** Builds one in the background unless one like it is there or on its way. Never throws. */
  prepare(options: RingOptions): void
  /** One over exactly these hops and for at least this context; it is the caller's then. */
  take(options: RingOptions): PreparedRing | undefined
  /** Usable ones. */
  readonly size: number
  clear(): void
}

interface Entry {
  readonly key: string
  readonly maxContext: number
  ring: PreparedRing | undefined
  cancel(): void
}

export function createReadyRings(
  { limits, timers }: { limits: OnionLimits; timers: Timers },
  build: (options: RingOptions, signal: AbortSignal) => Promise<PreparedRing>,
): ReadyRings {
  const entries = new Set<Entry>()
  const stopped = new AbortController()
  const remove = (entry: Entry) => {
    entry.cancel()
    entries.delete(entry)
  }
  const sweep = () => {
    for (const entry of [...entries]) if (entry.ring?.ended === true) remove(entry)
  }

  return {
    get size() {
      sweep()
      return [...entries].filter(({ ring }) => ring !== undefined).length
    },
    prepare(options) {
      sweep()
      const key = keyOf(options)
      if (stopped.signal.aborted || [...entries].some((entry) => entry.key === key)) return
      for (const oldest of entries) {
        if (entries.size < limits.readyRings) break
        remove(oldest)
        oldest.ring?.close()
      }
      const cancelled = new AbortController()
      const expire = timers.after(limits.readyMs, () => {
        remove(entry)
        entry.ring?.close()
      })
      const entry: Entry = {
        key,
        maxContext: options.maxContext,
        ring: undefined,
        cancel() {
          expire()
          cancelled.abort()
        },
      }
      entries.add(entry)
      const signal = AbortSignal.any([stopped.signal, cancelled.signal])
      confirmed(build, options, signal).then(
        (ring) => {
          if (signal.aborted) ring.close()
          else entry.ring = ring
        },
        // Nobody waits for it: the next ask will meet the same trouble and say it.
        () => remove(entry),
      )
    },
    take(options) {
      sweep()
      const key = keyOf(options)
      for (const entry of entries) {
        if (entry.ring === undefined || entry.key !== key || entry.maxContext < options.maxContext) continue
        remove(entry)
        return entry.ring
      }
      return undefined
    },
    clear() {
      stopped.abort()
      for (const { ring, cancel } of entries) {
        cancel()
        ring?.close()
      }
      entries.clear()
    },
  }
}

async function confirmed(
  build: (options: RingOptions, signal: AbortSignal) => Promise<PreparedRing>,
  options: RingOptions,
  signal: AbortSignal,
): Promise<PreparedRing> {
  const ring = await build(options, signal)
  try {
    await ring.confirm(signal)
    return ring
  } catch (error) {
    ring.close()
    throw error
  }
}

function keyOf({ hops, modelId, hiddenSize, numericsClass, longRope = false, mendable = false }: RingOptions): string {
  const stops = hops.map(({ role, peerId, addressKey, onionKey, span }) => {
    return [role, peerId, toHex(addressKey), toHex(onionKey), span?.start, span?.end]
  })
  return JSON.stringify([stops, toHex(modelId), hiddenSize, toHex(numericsClass), longRope, mendable])
}
