import koffi from 'koffi'
import { LlmNodeError } from '../base/errors.ts'
import { type OnnxType, onnxTypeBytes, onnxTypes } from './onnx-proto.ts'
import { bundledLibraryPath, loadOrtLibrary, type OrtLibrary } from './ort-library.ts'

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
  /** Runs on this thread: only what takes next to no time, for everything else waits. Throws ENGINE_FAILED. */
  runHere(): void
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
  const runtime = new Runtime(loadOrtLibrary(path))
  runtimes.set(path, runtime)
  return runtime
}

/** Errors come back as statuses and are thrown; a second copy on stderr helps nobody. */
const logFatalOnly = 4
const optimizeAll = 99

/**
 * Threads spin while a run goes on, because a sleeping one takes longer to wake than a small operator takes to
 * compute, and stop with the run, so that waiting processes leave the processor alone (bench/results/engine.md).
 */
const baseConfig: Readonly<Record<string, string>> = {
  'session.intra_op.allow_spinning': '1',
  'session.force_spinning_stop': '1',
  // Packed weights outside the arena: it would round them up and never give them back.
  'session.use_device_allocator_for_initializers': '1',
}

class Runtime implements OrtRuntime {
  readonly version: string
  readonly #api: OrtLibrary['functions']
  readonly #env: bigint
  readonly #allocator: bigint

  constructor(library: OrtLibrary) {
    this.version = library.version
    this.#api = library.functions
    this.#env = this.#made((out) => this.#api.CreateEnv(logFatalOnly, 'llm-node', out), 'starting')
    this.#allocator = this.#made((out) => this.#api.GetAllocatorWithDefaultOptions(out), 'starting')
  }

  createTensor(type: OnnxType, dims: readonly number[]): OrtTensor {
    const elements = dims.reduce((product, dim) => product * dim, 1)
    if (!dims.every((dim) => Number.isSafeInteger(dim) && dim >= 0) || !Number.isSafeInteger(elements * 8)) {
      throw new LlmNodeError('INTERNAL', `A tensor cannot have the shape [${dims.join(', ')}].`)
    }
    const sizeBytes = elements * onnxTypeBytes[type]
    const handle = this.#allocate(type, dims, sizeBytes)
    const address = this.#made((out) => this.#api.GetTensorMutableData(handle, out), 'allocating memory')
    const memory = sizeBytes === 0 ? new ArrayBuffer(0) : koffi.view(address, sizeBytes)
    return { handle, type, dims, sizeBytes, memory, release: once(() => this.#api.ReleaseValue(handle)) }
  }

  async createSession(model: Uint8Array, options: OrtSessionOptions): Promise<OrtSession> {
    const api = this.#api
    const sessionOptions = this.#made((out) => api.CreateSessionOptions(out), 'preparing')
    const out = new BigUint64Array(1)
    try {
      this.#configure(sessionOptions, options)
      await this.#called(
        (done) => api.CreateSessionFromArray.async(this.#env, model, model.byteLength, sessionOptions, out, done),
        'loading the weights',
      )
    } finally {
      api.ReleaseSessionOptions(sessionOptions)
    }
    const session = out[0] ?? 0n
    return {
      createBinding: () => this.#createBinding(session),
      release: once(() => api.ReleaseSession(session)),
    }
  }

  #configure(sessionOptions: bigint, options: OrtSessionOptions): void {
    const api = this.#api
    this.#check(api.SetSessionGraphOptimizationLevel(sessionOptions, optimizeAll), 'preparing')
    this.#check(api.SetIntraOpNumThreads(sessionOptions, options.threads), 'preparing')
    this.#check(api.SetInterOpNumThreads(sessionOptions, 1), 'preparing')
    const folder = options.weightsFolder
    const external: Record<string, string> =
      folder === undefined ? {} : { 'session.model_external_initializers_file_folder_path': folder }
    for (const [key, value] of Object.entries({ ...baseConfig, ...external })) {
      this.#check(api.AddSessionConfigEntry(sessionOptions, key, value), `setting ${key}`)
    }
  }

  #createBinding(session: bigint): OrtBinding {
    const api = this.#api
    const binding = this.#made((out) => api.CreateIoBinding(session, out), 'binding')
    return {
      input: (name, tensor) => this.#check(api.BindInput(binding, name, tensor.handle), `binding ${name}`),
      output: (name, tensor) => this.#check(api.BindOutput(binding, name, tensor.handle), `binding ${name}`),
      run: () => this.#called((done) => api.RunWithBinding.async(session, null, binding, done), 'computing'),
      runHere: () => this.#check(api.RunWithBinding(session, null, binding), 'computing'),
      release: once(() => api.ReleaseIoBinding(binding)),
    }
  }

  #allocate(type: OnnxType, dims: readonly number[], sizeBytes: number): bigint {
    const shape = BigInt64Array.from(dims, BigInt)
    try {
      return this.#made(
        (out) => this.#api.CreateTensorAsOrtValue(this.#allocator, shape, dims.length, onnxTypes[type], out),
        'allocating memory',
      )
    } catch (cause) {
      throw new LlmNodeError('OUT_OF_MEMORY', `There are no ${sizeBytes} bytes of memory free.`, {
        hint: 'Hold fewer layers, or give sessions less memory.',
        cause,
      })
    }
  }

  /** Throws what a status says; null is success. */
  #check(status: bigint | null, doing: string): void {
    if (status === null) return
    const reason = String(this.#api.GetErrorMessage(status))
    this.#api.ReleaseStatus(status)
    throw new LlmNodeError('ENGINE_FAILED', `ONNX Runtime failed while ${doing}: ${reason}`, {
      hint: 'Run "llm-node doctor"; whether the weights are damaged, "llm-node models verify" finds out.',
    })
  }

  /** Calls a C function whose last parameter is an out pointer, and returns what it wrote there. */
  #made(call: (out: BigUint64Array) => bigint | null, doing: string): bigint {
    const out = new BigUint64Array(1)
    this.#check(call(out), doing)
    return out[0] ?? 0n
  }

  /** Calls a C function on a thread of the pool and waits for its status. */
  #called(call: (done: (error: unknown, status: bigint | null) => void) => void, doing: string): Promise<void> {
    return new Promise((resolve, reject) => {
      call((error, status) => {
        try {
          if (error) throw error
          this.#check(status, doing)
          resolve()
        } catch (failure) {
          reject(failure)
        }
      })
    })
  }
}

/** Freeing twice would corrupt the heap. */
function once(release: () => void): () => void {
  let released = false
  return () => {
    if (released) return
    released = true
    release()
  }
}
