/** What the machine under the engine can do: the limits that figures have to be read against. */
import { readFileSync } from 'node:fs'
import { createInitializers, createNodeList, valueInfo } from '../../src/shard/graph-nodes.ts'
import { encodeModel } from '../../src/shard/onnx-proto.ts'
import { openOrt } from '../../src/shard/ort.ts'

const features = ['avx2', 'avx_vnni', 'avx512f', 'avx512_vnni', 'avx512_bf16', 'amx_int8', 'asimddp', 'i8mm', 'sve']

/** Instruction sets that matter to the kernels, as the kernel of the operating system names them. */
export function cpuFeatures(): string[] {
  try {
    const info = readFileSync('/proc/cpuinfo', 'utf8')
    const flags = new Set(/^(?:flags|Features)\s*:(.*)$/m.exec(info)?.[1]?.trim().split(/\s+/))
    return features.filter((feature) => flags.has(feature))
  } catch {
    return []
  }
}

/** GB/s at which `threads` threads read memory: the largest value of 512 MB, found as fast as it can be. */
export async function readBandwidth(threads: number): Promise<number> {
  const ort = openOrt()
  const rows = 1_024
  const columns = 131_072
  const nodes = createNodeList()
  const init = createInitializers()
  const lastAxis = init.constant('last_axis', 'i64', [1], BigInt64Array.of(-1n))
  nodes.add('ReduceMax', ['x', lastAxis], 'y', { keepdims: 0 })
  const model = encodeModel({
    name: 'read',
    node: nodes.nodes,
    initializer: init.tensors,
    input: [valueInfo('x', 'f32', [rows, columns])],
    output: [valueInfo('y', 'f32', [rows])],
  })
  const session = await ort.createSession(model, { threads })
  const binding = session.createBinding()
  const x = ort.createTensor('f32', [rows, columns])
  const y = ort.createTensor('f32', [rows])
  new Float32Array(x.memory).fill(1)
  binding.input('x', x)
  binding.output('y', y)
  let best = Number.POSITIVE_INFINITY
  for (let i = 0; i < 6; i++) {
    const startMs = performance.now()
    await binding.run()
    best = Math.min(best, performance.now() - startMs)
  }
  binding.release()
  session.release()
  x.release()
  y.release()
  return x.sizeBytes / 1e6 / best
}
