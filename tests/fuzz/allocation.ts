/** Counts what is allocated by length: typed arrays, buffers and arrays (Array.from, too), wherever code asks for them. */
export interface AllocationMeter {
  reset(): void
  readonly bytes: number
}

export function startAllocationMeter(): AllocationMeter {
  let bytes = 0
  const count = (size: unknown, width: number) => {
    if (typeof size === 'number' && size > 0) bytes += size * width
    return size
  }
  const globals = globalThis as unknown as Record<string, new (...args: unknown[]) => object>
  for (const [name, width] of [
    ['Uint8Array', 1],
    ['Float32Array', 4],
    ['ArrayBuffer', 1],
    ['Array', 8],
  ] as const) {
    const original = globals[name]
    if (original === undefined) continue
    globals[name] = new Proxy(original, {
      construct(target, args, newTarget) {
        if (args.length > 0) count(args[0], width)
        return Reflect.construct(target, args, newTarget === globals[name] ? target : newTarget)
      },
    })
  }
  const { alloc, allocUnsafe } = Buffer
  Buffer.alloc = (size, ...rest) => alloc(Number(count(size, 1)), ...rest)
  Buffer.allocUnsafe = (size) => allocUnsafe(Number(count(size, 1)))
  return {
    reset() {
      bytes = 0
    },
    get bytes() {
      return bytes
    },
  }
}
