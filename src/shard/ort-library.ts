import { readdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import koffi, { type KoffiFunc } from 'koffi'
import { LlmNodeError } from '../base/errors.ts'
import { returnLargeAllocations } from './large-allocations.ts'

/**
 * Functions of ONNX Runtime's C API that are used here, by their place in OrtApi (onnxruntime_c_api.h; the table only
 * ever grows at its end). Each returns an OrtStatus pointer, or nothing where `void` is written.
 */
const signatures = {
  GetErrorMessage: [2, 'str', ['void *']],
  CreateEnv: [3, 'void *', ['int', 'str', 'void *']],
  CreateSessionFromArray: [8, 'void *', ['void *', 'void *', 'size_t', 'void *', 'void *']],
  CreateSessionOptions: [10, 'void *', ['void *']],
  SetSessionGraphOptimizationLevel: [23, 'void *', ['void *', 'int']],
  SetIntraOpNumThreads: [24, 'void *', ['void *', 'int']],
  SetInterOpNumThreads: [25, 'void *', ['void *', 'int']],
  CreateTensorAsOrtValue: [48, 'void *', ['void *', 'void *', 'size_t', 'int', 'void *']],
  GetTensorMutableData: [51, 'void *', ['void *', 'void *']],
  CreateMemoryInfo: [68, 'void *', ['str', 'int', 'int', 'int', 'void *']],
  GetAllocatorWithDefaultOptions: [78, 'void *', ['void *']],
  ReleaseStatus: [93, 'void', ['void *']],
  ReleaseMemoryInfo: [94, 'void', ['void *']],
  ReleaseSession: [95, 'void', ['void *']],
  ReleaseValue: [96, 'void', ['void *']],
  ReleaseSessionOptions: [100, 'void', ['void *']],
  GetAvailableProviders: [125, 'void *', ['void *', 'void *']],
  ReleaseAvailableProviders: [126, 'void *', ['void *', 'int']],
  AddSessionConfigEntry: [130, 'void *', ['void *', 'str', 'str']],
  CreateAllocator: [131, 'void *', ['void *', 'void *', 'void *']],
  ReleaseAllocator: [132, 'void', ['void *']],
  RunWithBinding: [133, 'void *', ['void *', 'void *', 'void *']],
  CreateIoBinding: [134, 'void *', ['void *', 'void *']],
  ReleaseIoBinding: [135, 'void', ['void *']],
  BindInput: [136, 'void *', ['void *', 'str', 'void *']],
  BindOutput: [137, 'void *', ['void *', 'str', 'void *']],
  SynchronizeBoundInputs: [202, 'void *', ['void *']],
  SessionOptionsAppendExecutionProvider_CUDA_V2: [204, 'void *', ['void *', 'void *']],
  CreateCUDAProviderOptions: [205, 'void *', ['void *']],
  UpdateCUDAProviderOptions: [206, 'void *', ['void *', 'str *', 'str *', 'size_t']],
  ReleaseCUDAProviderOptions: [208, 'void', ['void *']],
} as const satisfies Record<string, readonly [number, string, readonly string[]]>

type ApiName = keyof typeof signatures

/** A C function; its arguments are what the signature above says, and koffi checks them. */
// biome-ignore lint/suspicious/noExplicitAny: a native signature is beyond the type system; ort.ts is the only caller.
type NativeFunction = KoffiFunc<(...args: any[]) => any>

/** The API version that the table above was taken from; older libraries answer with a null pointer. */
const apiVersion = 23

/** The C functions, as koffi calls them, and the runtime's version ("1.30.0"). */
export interface OrtLibrary {
  readonly version: string
  readonly functions: Readonly<Record<ApiName, NativeFunction>>
}

/** libonnxruntime of the installed onnxruntime-node package, for this operating system and processor. */
export function bundledLibraryPath(): string {
  const root = dirname(createRequire(import.meta.url).resolve('onnxruntime-node/package.json'))
  const folder = join(root, 'bin', 'napi-v6', process.platform, process.arch)
  const pattern = /^(libonnxruntime\.so\.1|libonnxruntime\.1\.dylib|onnxruntime\.dll)$/
  try {
    const file = readdirSync(folder).find((name) => pattern.test(name))
    if (file !== undefined) return join(folder, file)
  } catch {
    // Said below: there is no build for this machine.
  }
  throw new LlmNodeError(
    'ENGINE_UNAVAILABLE',
    `ONNX Runtime has no build for ${process.platform} on ${process.arch}.`,
    {
      hint: 'Set LLM_NODE_ORT_LIB (engine.library in the config) to a libonnxruntime built for this machine.',
    },
  )
}

/** Loads the library and resolves the functions. Throws ENGINE_UNAVAILABLE. */
export function loadOrtLibrary(path: string): OrtLibrary {
  // Builds for Linux and macOS since 1.30 report what they run to their maker, and keep the reports in the temporary
  // folder until they are sent. A node tells nobody what it runs.
  process.env.ORT_DISABLE_TELEMETRY = '1'
  try {
    // Kernels of a run keep tiles of 64 KiB and more on the stack; koffi's default of 128 KiB would be overrun.
    if (kept.length === 0) {
      koffi.config({ async_stack_size: 4 * 1_048_576 })
      returnLargeAllocations()
    }
    const library = koffi.load(path)
    kept.push(library)
    const OrtApiBase = koffi.struct({ GetApi: 'void *', GetVersionString: 'void *' })
    const base = koffi.decode(library.func('OrtGetApiBase', 'void *', [])(), OrtApiBase)
    const text = koffi.decode(base.GetVersionString, koffi.proto('str', []))()
    const api: bigint | null = koffi.decode(base.GetApi, koffi.proto('void *', ['uint32_t']))(apiVersion)
    if (api === null) throw new Error(`version ${text} is too old: it lacks API ${apiVersion}`)
    const pointerBytes = koffi.sizeof('void *')
    const resolve = (name: ApiName): NativeFunction => {
      const [slot, result, parameters] = signatures[name]
      const pointer = koffi.decode(api, slot * pointerBytes, 'void *')
      return koffi.decode(pointer, koffi.proto(result, [...parameters]))
    }
    const names = Object.keys(signatures) as ApiName[]
    const functions = Object.fromEntries(names.map((name) => [name, resolve(name)]))
    return { version: String(text), functions: functions as Record<ApiName, NativeFunction> }
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new LlmNodeError('ENGINE_UNAVAILABLE', `ONNX Runtime could not be loaded from ${path}: ${reason}.`, {
      hint: 'Reinstall the packages, or set LLM_NODE_ORT_LIB to another libonnxruntime of version 1.23 or newer.',
      cause,
    })
  }
}

/** A collected handle is unloaded, and the next call jumps into nothing: handles live as long as the process. */
const kept: unknown[] = []
