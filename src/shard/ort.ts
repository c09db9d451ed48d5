import koffi from 'koffi'
import { LlmNodeError } from '../base/errors.ts'
import { type OnnxType, onnxTypeBytes, onnxTypes } from './onnx-proto.ts'
import { bundledLibraryPath, loadOrtLibrary } from './ort-library.ts'

/**
 * A tensor in ONNX Runtime's own memory. Bindings and sessions keep a reference of theirs, so releasing it here never
 * frees memory that a run still uses; but no array from `f32` and friends may be touched after `release`.
 */
export interface OrtTensor {
  readonly handle: bigint
  readonly type: OnnxType
  readonly dims: readonly number[]
  readonly sizeBytes: number
  /** The tensor's memory itself, not a copy. */
  readonly memory: ArrayBuffer
  /** Idempotent. */
  release(): void
}

/** The inputs and outputs of runs of one session. Not for two runs at a time. */
export interface OrtBinding {
  input(name: string, tensor: OrtTensor): void
  output(name: string, tensor: OrtTensor): void
  /** Runs on a thread of the pool; the event loop stays free. Throws ENGINE_FAILED. */
  run(): Promise<void>
  release(): void
}

export interface OrtSession {
  createBinding(): OrtBinding
  /** Only after its runs have ended and its bindings are released. Idempotent. */
  release(): void
}

export interface OrtSessionOptions {
  /** Threads of a run, the calling one included. */
  readonly threads: number
  /** The folder in which the graph's external data lies. */
  readonly weightsFolder?: string
  /** Further `session.…` entries; they win over the ones set here. */
  readonly config?: Readonly<Record<string, string>>
}

export interface OrtRuntime {
  readonly version: string
  /** Uninitialised memory of `dims`. Throws OUT_OF_MEMORY. */
  createTensor(type: OnnxType, dims: readonly number[]): OrtTensor
  /** Loads a serialised ONNX graph and packs its weights, off the event loop. Throws ENGINE_FAILED. */
  createSession(model: Uint8Array, options: OrtSessionOptions): Promise<OrtSession>
}

const runtimes = new Map<string, OrtRuntime>()

/** The ONNX Runtime at `library`, or the bundled one; loaded once per process. Throws ENGINE_UNAVAILABLE. */
export function openOrt(library?: string): OrtRuntime {
  const path = library ?? bundledLibraryPath()
  const known = runtimes.get(path)
  if (known !== undefined) return known
  const runtime = createRuntime(path)
  runtimes.set(path, runtime)
  return runtime
}

/** Errors come back as statuses and are thrown; a second copy on stderr helps nobody. */
const logFatalOnly = 4
const optimizeAll = 99

/**
 * Threads spin while a run goes on, because a sleeping one takes longer to wake than a small operator takes to
 * compute, and stop with the run, so that waiting processes leave the processor alone (measured: bench/results/engine.md).
 */
const baseConfig: Readonly<Record<string, string>> = {
  'session.intra_op.allow_spinning': '1',
  'session.force_spinning_stop': '1',
  // Packed weights outside the arena: it would round them up and never give them back.
  'session.use_device_allocator_for_initializers': '1',
}

function createRuntime(path: string): OrtRuntime {
  const { version, functions: api } = loadOrtLibrary(path)
  const check = (status: bigint | null, doing: string): void => {
    if (status === null) return
    const reason = String(api.GetErrorMessage(status))
    api.ReleaseStatus(status)
    throw new LlmNodeError('ENGINE_FAILED', `ONNX Runtime failed while ${doing}: ${reason}`, {
      hint: 'Run "llm-node doctor"; if the weights are damaged, "llm-node models verify" finds out.',
    })
  }
  /** Calls a C function whose last parameter is an out pointer, and returns what it wrote there. */
  const made = (call: (out: BigUint64Array) => bigint | null, doing: string): bigint => {
    const out = new BigUint64Array(1)
    check(call(out), doing)
    return out[0] ?? 0n
  }
  const env = made((out) => api.CreateEnv(logFatalOnly, 'llm-node', out), 'starting')
  const allocator = made((out) => api.GetAllocatorWithDefaultOptions(out), 'starting')

  const createTensor = (type: OnnxType, dims: readonly number[]): OrtTensor => {
    const elements = dims.reduce((product, dim) => product * dim, 1)
    if (!dims.every((dim) => Number.isSafeInteger(dim) && dim >= 0) || !Number.isSafeInteger(elements * 8)) {
      throw new LlmNodeError('INTERNAL', `A tensor cannot have the shape [${dims.join(', ')}].`)
    }
    const sizeBytes = elements * onnxTypeBytes[type]
    const shape = BigInt64Array.from(dims, BigInt)
    let handle: bigint
    try {
      handle = made(
        (out) => api.CreateTensorAsOrtValue(allocator, shape, dims.length, onnxTypes[type], out),
        'allocating memory',
      )
    } catch (cause) {
      throw new LlmNodeError('OUT_OF_MEMORY', `There are no ${sizeBytes} bytes of memory free.`, {
        hint: 'Hold fewer layers, or lower the memory for sessions (engine.kvMemory).',
        cause,
      })
    }
    const memory =
      sizeBytes === 0
        ? new ArrayBuffer(0)
        : koffi.view(
            made((out) => api.GetTensorMutableData(handle, out), 'allocating memory'),
            sizeBytes,
          )
    let released = false
    return {
      handle,
      type,
      dims,
      sizeBytes,
      memory,
      release() {
        if (released) return
        released = true
        api.ReleaseValue(handle)
      },
    }
  }

  const createSession = async (model: Uint8Array, options: OrtSessionOptions): Promise<OrtSession> => {
    const sessionOptions = made((out) => api.CreateSessionOptions(out), 'preparing')
    let session: bigint
    try {
      check(api.SetSessionGraphOptimizationLevel(sessionOptions, optimizeAll), 'preparing')
      check(api.SetIntraOpNumThreads(sessionOptions, options.threads), 'preparing')
      check(api.SetInterOpNumThreads(sessionOptions, 1), 'preparing')
      const folder = options.weightsFolder
      const external: Record<string, string> =
        folder === undefined ? {} : { 'session.model_external_initializers_file_folder_path': folder }
      for (const [key, value] of Object.entries({ ...baseConfig, ...external, ...options.config })) {
        check(api.AddSessionConfigEntry(sessionOptions, key, value), `setting ${key}`)
      }
      const out = new BigUint64Array(1)
      await new Promise<void>((resolve, reject) => {
        api.CreateSessionFromArray.async(
          env,
          model,
          model.byteLength,
          sessionOptions,
          out,
          settle(resolve, reject, (status) => check(status, 'loading the layers')),
        )
      })
      session = out[0] ?? 0n
    } finally {
      api.ReleaseSessionOptions(sessionOptions)
    }
    let released = false
    return {
      createBinding: () => createBinding(session),
      release() {
        if (released) return
        released = true
        api.ReleaseSession(session)
      },
    }
  }

  const createBinding = (session: bigint): OrtBinding => {
    const binding = made((out) => api.CreateIoBinding(session, out), 'binding')
    let released = false
    return {
      input: (name, tensor) => check(api.BindInput(binding, name, tensor.handle), `binding ${name}`),
      output: (name, tensor) => check(api.BindOutput(binding, name, tensor.handle), `binding ${name}`),
      run: () =>
        new Promise<void>((resolve, reject) => {
          const done = settle(resolve, reject, (status) => check(status, 'computing'))
          api.RunWithBinding.async(session, null, binding, done)
        }),
      release() {
        if (released) return
        released = true
        api.ReleaseIoBinding(binding)
      },
    }
  }
  return { version, createTensor, createSession }
}

/** The callback of an asynchronous C call: resolves when the status it returned is good. */
function settle(resolve: () => void, reject: (error: unknown) => void, check: (status: bigint | null) => void) {
  return (error: unknown, status: bigint | null) => {
    try {
      if (error !== null && error !== undefined) throw error
      check(status)
      resolve()
    } catch (failure) {
      reject(failure)
    }
  }
}
