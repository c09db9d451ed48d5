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
  /** The tensor's memory itself, not a copy. Empty for one on a device, which only runs can read and write. */
  readonly memory: ArrayBuffer
  /** Idempotent. */
  release(): void
}

/** The inputs and outputs of runs of one session. Not for two runs at a time. */
export interface OrtBinding {
  /** A device gets its copy before each run, or, where the values are `fixed`, once now. */
  input(name: string, tensor: OrtTensor, options?: { readonly fixed?: boolean }): void
  output(name: string, tensor: OrtTensor): void
  /** Runs on a thread of the pool; the event loop stays free. Throws ENGINE_FAILED. */
  run(): Promise<void>
  /** Runs on this thread: only what takes next to no time, for everything else waits. Throws ENGINE_FAILED. */
  runHere(): void
  release(): void
}

export interface OrtSession {
  createBinding(): OrtBinding
  /** Uninitialised memory of `dims` where the session computes; to be released before the session is. OUT_OF_MEMORY. */
  createTensor(type: OnnxType, dims: readonly number[]): OrtTensor
  /** Only after its runs have ended and its bindings are released. Idempotent. */
  release(): void
}

/** What computes: the processor, or an NVIDIA GPU through ONNX Runtime's CUDA provider. */
export type Provider = 'cpu' | 'cuda'

export interface OrtSessionOptions {
  /** Default: cpu. */
  readonly provider?: Provider
  /** Threads of a run, the calling one included. */
  readonly threads: number
  /** The folder in which the graph's external data lies. */
  readonly weightsFolder?: string
}

export interface OrtRuntime {
  readonly version: string
  /** Throws ENGINE_UNAVAILABLE with the reason when sessions cannot be made for it; that one needs a GPU shows later. */
  checkProvider(provider: Provider): void
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

/** CUDA: products of f32 in f32, not in TF32; memory as it is asked for. */
const cudaConfig: Readonly<Record<string, string>> = {
  device_id: '0',
  use_tf32: '0',
  arena_extend_strategy: 'kSameAsRequested',
}
/** A matrix that is silently computed elsewhere would have other bits and the speed of neither (engine.md §5). */
const noFallback = { 'session.disable_cpu_ep_fallback': '1' }

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
    return this.#createTensor(type, dims, this.#allocator)
  }

  #createTensor(type: OnnxType, dims: readonly number[], allocator: bigint): OrtTensor {
    const elements = dims.reduce((product, dim) => product * dim, 1)
    if (!dims.every((dim) => Number.isSafeInteger(dim) && dim >= 0) || !Number.isSafeInteger(elements * 8)) {
      throw new LlmNodeError('INTERNAL', `A tensor cannot have the shape [${dims.join(', ')}].`)
    }
    const sizeBytes = elements * onnxTypeBytes[type]
    const handle = this.#allocate(type, dims, sizeBytes, allocator)
    const release = once(() => this.#api.ReleaseValue(handle))
    if (sizeBytes === 0 || allocator !== this.#allocator) {
      return { handle, type, dims, sizeBytes, memory: new ArrayBuffer(0), release }
    }
    const address = this.#made((out) => this.#api.GetTensorMutableData(handle, out), 'allocating memory')
    return { handle, type, dims, sizeBytes, memory: koffi.view(address, sizeBytes), release }
  }

  checkProvider(provider: Provider): void {
    const options = this.#made((out) => this.#api.CreateSessionOptions(out), 'preparing')
    try {
      this.#useProvider(options, provider)
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause)
      throw new LlmNodeError('ENGINE_UNAVAILABLE', reason, { cause })
    } finally {
      this.#api.ReleaseSessionOptions(options)
    }
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
    const onDevice = options.provider === 'cuda'
    const allocator = onDevice ? this.#deviceAllocator(session) : this.#allocator
    return {
      createBinding: () => this.#createBinding(session, onDevice),
      createTensor: (type, dims) => this.#createTensor(type, dims, allocator),
      release: once(() => {
        if (onDevice) api.ReleaseAllocator(allocator)
        api.ReleaseSession(session)
      }),
    }
  }

  /** Memory of the GPU that the session computes on. */
  #deviceAllocator(session: bigint): bigint {
    const api = this.#api
    const info = this.#made((out) => api.CreateMemoryInfo('Cuda', 0, 0, 0, out), 'preparing')
    try {
      return this.#made((out) => api.CreateAllocator(session, info, out), 'preparing')
    } catch (error) {
      api.ReleaseSession(session)
      throw error
    } finally {
      api.ReleaseMemoryInfo(info)
    }
  }

  #useProvider(sessionOptions: bigint, provider: Provider | undefined): void {
    if (provider !== 'cuda') return
    const api = this.#api
    const cuda = this.#made((out) => api.CreateCUDAProviderOptions(out), 'preparing CUDA')
    try {
      const [keys, values] = [Object.keys(cudaConfig), Object.values(cudaConfig)]
      this.#check(api.UpdateCUDAProviderOptions(cuda, keys, values, keys.length), 'preparing CUDA')
      this.#check(api.SessionOptionsAppendExecutionProvider_CUDA_V2(sessionOptions, cuda), 'loading CUDA')
    } finally {
      api.ReleaseCUDAProviderOptions(cuda)
    }
  }

  #configure(sessionOptions: bigint, options: OrtSessionOptions): void {
    const api = this.#api
    this.#check(api.SetSessionGraphOptimizationLevel(sessionOptions, optimizeAll), 'preparing')
    this.#check(api.SetIntraOpNumThreads(sessionOptions, options.threads), 'preparing')
    this.#check(api.SetInterOpNumThreads(sessionOptions, 1), 'preparing')
    this.#useProvider(sessionOptions, options.provider)
    const folder = options.weightsFolder
    const external: Record<string, string> =
      folder === undefined ? {} : { 'session.model_external_initializers_file_folder_path': folder }
    const config = { ...baseConfig, ...external, ...(options.provider === 'cuda' && noFallback) }
    for (const [key, value] of Object.entries(config)) {
      this.#check(api.AddSessionConfigEntry(sessionOptions, key, value), `setting ${key}`)
    }
  }

  #createBinding(session: bigint, onDevice: boolean): OrtBinding {
    const api = this.#api
    const binding = this.#made((out) => api.CreateIoBinding(session, out), 'binding')
    const bind = (name: string, { handle }: OrtTensor) =>
      this.#check(api.BindInput(binding, name, handle), `binding ${name}`)
    /** Inputs of ours that a device reads: binding one is what copies it there. */
    const copied = new Map<string, OrtTensor>()
    const copyInputs = () => {
      for (const [name, tensor] of copied) bind(name, tensor)
      if (onDevice) this.#check(api.SynchronizeBoundInputs(binding), 'copying to the device')
    }
    const runBound = () => this.#called((done) => api.RunWithBinding.async(session, null, binding, done), 'computing')
    return {
      input(name, tensor, { fixed = false } = {}) {
        if (onDevice && tensor.memory.byteLength > 0 && !fixed) copied.set(name, tensor)
        else copied.delete(name)
        bind(name, tensor)
      },
      output: (name, tensor) => this.#check(api.BindOutput(binding, name, tensor.handle), `binding ${name}`),
      async run() {
        copyInputs()
        await runBound()
      },
      runHere: () => {
        copyInputs()
        this.#check(api.RunWithBinding(session, null, binding), 'computing')
      },
      release: once(() => api.ReleaseIoBinding(binding)),
    }
  }

  #allocate(type: OnnxType, dims: readonly number[], sizeBytes: number, allocator: bigint): bigint {
    const shape = BigInt64Array.from(dims, BigInt)
    try {
      return this.#made(
        (out) => this.#api.CreateTensorAsOrtValue(allocator, shape, dims.length, onnxTypes[type], out),
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
