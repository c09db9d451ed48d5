/** llama.cpp beside us, through node-llama-cpp: a dependency of the benches alone, installed when one first needs it. */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** What the benches use of node-llama-cpp; its own types are not there before it is installed. */
export interface LlamaSequence {
  readonly nextTokenIndex: number
  clearHistory(): Promise<void>
  /** Computes the tokens, then one more each time the next is asked for: greedy with temperature 0. */
  evaluate(
    tokens: readonly number[],
    options: { temperature: number; yieldEogToken: boolean },
  ): AsyncGenerator<number, void>
  evaluateWithoutGeneratingNewTokens(tokens: readonly number[]): Promise<void>
}

interface LlamaContext {
  getSequence(): LlamaSequence
  dispose(): Promise<void>
}

interface LlamaModel {
  createContext(options: {
    contextSize: number
    batchSize: number
    threads: number
    sequences: number
  }): Promise<LlamaContext>
}

interface LlamaModule {
  getLlama(options: Readonly<Record<string, unknown>>): Promise<{
    loadModel(options: { modelPath: string }): Promise<LlamaModel>
    dispose(): Promise<void>
  }>
}

export interface Llama {
  readonly sequences: readonly LlamaSequence[]
  close(): Promise<void>
}

export interface LlamaOptions {
  /** A GGUF file. */
  readonly path: string
  readonly threads: number
  /** Tokens that each sequence may hold. */
  readonly contextSize: number
  readonly nSequences: number
}

/** Loads a model on the processor, as node-llama-cpp does by itself: keys and values in f16, batches of 512. */
export async function openLlama({ path, threads, contextSize, nSequences }: LlamaOptions): Promise<Llama> {
  // Typed as a string: there is nothing to resolve until it is installed.
  const name: string = 'node-llama-cpp'
  const { getLlama } = (await import(name)) as LlamaModule
  const llama = await getLlama({
    gpu: false,
    build: 'never',
    skipDownload: true,
    progressLogs: false,
    logLevel: 'error',
    maxThreads: threads,
  })
  const model = await llama.loadModel({ modelPath: path })
  const context = await model.createContext({ contextSize, batchSize: 512, threads, sequences: nSequences })
  return {
    sequences: Array.from({ length: nSequences }, () => context.getSequence()),
    close: () => llama.dispose(),
  }
}

const folder = fileURLToPath(new URL('..', import.meta.url))
const binaries: Readonly<Record<string, string>> = {
  'linux-x64': 'linux-x64',
  'linux-arm64': 'linux-arm64',
  'darwin-arm64': 'mac-arm64-metal',
  'darwin-x64': 'mac-x64',
  'win32-x64': 'win-x64',
  'win32-arm64': 'win-arm64',
}

/**
 * Installs node-llama-cpp into bench/node_modules, with the one binary for this processor (85 MB; all of them, CUDA
 * included, are 730). False, with the reason on stderr, when that is impossible: offline, or no binary.
 */
export function installLlama(): boolean {
  try {
    import.meta.resolve('node-llama-cpp')
    return true
  } catch {
    // Not there yet.
  }
  const binary = binaries[`${process.platform}-${process.arch}`]
  if (binary === undefined) {
    console.error(`node-llama-cpp has no binary for ${process.platform} on ${process.arch}; it is left out.`)
    return false
  }
  const { dependencies } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'))
  const wanted = `@node-llama-cpp/${binary}@${dependencies['node-llama-cpp']}`
  const args = ['install', '--no-save', '--ignore-scripts', '--omit=optional', '--loglevel=error', wanted]
  const { status } = spawnSync('npm', args, {
    cwd: folder,
    stdio: ['ignore', 'ignore', 'inherit'],
    shell: process.platform === 'win32',
  })
  if (status !== 0) console.error('node-llama-cpp could not be installed; it is left out.')
  return status === 0
}
