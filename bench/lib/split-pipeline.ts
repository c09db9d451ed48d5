/** A pipeline over hops in processes of their own, beside the same layers in this process, for side-by-side timing. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { fromHex } from '../../src/base/bytes.ts'
import type { Span } from '../../src/base/span.ts'
import type { HopTarget, Ring } from '../../src/onion/ring.ts'
import type { RecipeId } from '../../src/shard/recipe.ts'
import { createBenchNode, loadLayers } from './bench-node.ts'

export interface SplitPipeline {
  readonly ring: Ring
  readonly hiddenSize: number
  /** Mean compute time of a decode step so far, per hop, in ms. */
  hopComputeMs(): Promise<number[]>
  close(): Promise<void>
}

export interface SplitOptions {
  /** Stock repository folder. */
  readonly model: string
  readonly recipe: RecipeId
  readonly spans: readonly Span[]
  /** Of each hop. */
  readonly threads: number
  readonly maxContext: number
}

interface HopProcess {
  readonly target: HopTarget
  computeMs(): Promise<number>
  stop(): Promise<void>
}

export async function openSplitPipeline(options: SplitOptions): Promise<SplitPipeline> {
  const folder = await mkdtemp(join(tmpdir(), 'llm-node-bench-'))
  const hops: HopProcess[] = []
  for (const span of options.spans) hops.push(await startHop(options, span))
  const entry = await createBenchNode(join(folder, 'keys'))
  const [span] = options.spans
  if (span === undefined) throw new Error('a pipeline has at least one span')
  // One layer, for model id, class and hidden size; it computes nothing.
  const layers = await loadLayers(options.model, join(folder, 'model'), {
    recipe: options.recipe,
    span: { start: span.start, end: span.start + 1 },
    threads: 1,
  })
  const { hiddenSize } = layers.runner.spec
  await layers.runner.close()
  const ring = await entry.onion.openRing(
    {
      hops: hops.map((hop) => hop.target),
      modelId: layers.modelId,
      numericsClass: layers.numericsClass,
      hiddenSize,
      maxContext: options.maxContext,
    },
    { signal: AbortSignal.timeout(30_000) },
  )
  return {
    ring,
    hiddenSize,
    hopComputeMs: () => Promise.all(hops.map((hop) => hop.computeMs())),
    async close() {
      await ring.close()
      await entry.stop()
      await Promise.all(hops.map((hop) => hop.stop()))
      await rm(folder, { recursive: true, force: true })
    },
  }
}

async function startHop(options: SplitOptions, span: Span): Promise<HopProcess> {
  const program = fileURLToPath(new URL('./hop-process.ts', import.meta.url))
  const numbers = [span.start, span.end, options.threads].map(String)
  const child = spawn(process.execPath, [...process.execArgv, program, options.model, options.recipe, ...numbers], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const nextLine = lineReader(child)
  const said = JSON.parse(await nextLine()) as { addressKey: string; onionKey: string; peerId: string; addrs: string[] }
  return {
    target: {
      role: 'compute',
      span,
      addressKey: fromHex(said.addressKey),
      onionKey: fromHex(said.onionKey),
      peerId: said.peerId,
      addrs: said.addrs,
    },
    async computeMs() {
      child.stdin?.write('\n')
      return (JSON.parse(await nextLine()) as { meanMs: number | null }).meanMs ?? 0
    },
    async stop() {
      const ended = new Promise<void>((resolve) => child.once('close', () => resolve()))
      child.stdin?.end()
      await ended
    },
  }
}

function lineReader(child: ChildProcess): () => Promise<string> {
  if (child.stdout === null) throw new Error('no output')
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  return async () => {
    const { value, done } = await lines.next()
    if (done) throw new Error('the hop ended')
    return value as string
  }
}
