import { access, constants, readdir, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { toHex } from '../base/bytes.ts'
import { spanLength } from '../base/span.ts'
import { usableMemory } from '../coverage/fit.ts'
import { openHolding, verifyModel } from '../shard/holding.ts'
import { examineEngine } from '../shard/probe.ts'
import { chooseProvider } from '../shard/provider.ts'
import { parseRecipe } from '../shard/recipe.ts'
import type { Machine } from './detect.ts'
import { multipliesBytes } from './detect-parsers.ts'
import { type Check, type DoctorContext, type Finding, fail, ok, skip, warn } from './doctor.ts'
import { examNotes } from './engine-choice.ts'
import { loadConfig } from './home.ts'
import { loadedBytes, mb, processBytes } from './memory-check.ts'

/** What the checks of the machine itself need from outside. */
export interface MachineDeps {
  readonly nodeVersion: string
  detect(folder: string): Promise<Machine>
}

/** Less is refused before a download, and little more is used up by logs and updates. */
const leastDiskBytes = 200e6
const lowDiskBytes = 2e9

export function machineChecks(deps: MachineDeps): readonly Check[] {
  const machine = (context: DoctorContext) => deps.detect(context.home.modelsFolder)
  return [
    { name: 'node version', run: async () => checkVersion(deps.nodeVersion) },
    { name: 'configuration', run: checkConfig },
    { name: 'home', run: checkHome },
    { name: 'keys', run: checkKeys },
    { name: 'disk', run: async (context) => checkDisk(await machine(context)) },
    { name: 'memory', run: async (context) => checkMemory(context, await machine(context)) },
    { name: 'engine', run: checkEngine },
    { name: 'processor', run: async (context) => checkProcessor(context, await machine(context)) },
    { name: 'model files', run: checkModels },
  ]
}

function checkVersion(version: string): Finding {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  if (major > 22 || (major === 22 && minor >= 18)) return ok(`Node ${version}.`)
  return fail(`Node ${version} is too old; 22.18 or newer is needed.`, 'Install a newer one from nodejs.org.')
}

async function checkConfig({ home }: DoctorContext): Promise<Finding> {
  const config = await loadConfig(home, { env: process.env })
  if (config.models.length > 0) {
    return ok(
      `Valid: network "${config.network.name}", ${config.models.length} model${config.models.length === 1 ? '' : 's'}.`,
    )
  }
  return warn('Valid, but no model is set up.', 'Fetch one: llm-node setup')
}

async function checkHome({ home }: DoctorContext): Promise<Finding> {
  for (const folder of [home.dataFolder, home.keysFolder, home.modelsFolder, dirname(home.runFile)]) {
    const parent = await nearest(folder)
    const writable = await access(parent, constants.R_OK | constants.W_OK | constants.X_OK).then(
      () => true,
      () => false,
    )
    const isFolder = (await stat(parent)).isDirectory()
    if (!writable || !isFolder) {
      return fail(
        `${folder} cannot be written.`,
        'Give this user access to it, or name another folder with --home DIR.',
      )
    }
  }
  return ok(`${home.root ?? home.dataFolder} can be written.`)
}

/** The path itself, or what is there of it. */
async function nearest(path: string): Promise<string> {
  for (let at = path; ; at = dirname(at)) {
    const found = await stat(at).catch((error: NodeJS.ErrnoException) => error.code)
    if (typeof found === 'object') return at
    if (found !== 'ENOENT' && found !== 'ENOTDIR') return at
    if (at === dirname(at)) return at
  }
}

async function checkKeys({ home }: DoctorContext): Promise<Finding> {
  const names = await readdir(home.keysFolder).catch(() => [])
  if (names.length === 0) return skip('This home has no keys yet; they are made at the first start.')
  if (process.platform === 'win32') return ok('The keys are there.')
  for (const name of names) {
    const path = join(home.keysFolder, name)
    const { mode } = await stat(path)
    if ((mode & 0o077) !== 0) {
      return fail(`${path} can be read by others on this machine.`, `Take that away with: chmod 600 ${path}`)
    }
  }
  return ok('Only this user can read the keys.')
}

function checkDisk({ disk }: Machine): Finding {
  if (disk === null) return skip('This system does not say how much disk is free.')
  const text = `${mb(disk.freeBytes)} of ${mb(disk.totalBytes)} are free.`
  if (disk.freeBytes < leastDiskBytes) {
    return fail(text, 'Free some space, remove a model with llm-node models rm, or use another disk with --home DIR.')
  }
  return disk.freeBytes < lowDiskBytes
    ? warn(text, 'Enough to run, not to fetch much more: free some space before the next setup.')
    : ok(text)
}

async function checkMemory({ home, config }: DoctorContext, { memory }: Machine): Promise<Finding> {
  let needBytes = processBytes
  for (const entry of config?.models ?? []) {
    const holding = await openHolding(join(home.modelsFolder, entry.folder)).catch(() => undefined)
    if (holding === undefined) continue
    const [span = null] = holding.spans
    needBytes += loadedBytes(holding.spec, holding.recipe, span, holding.endsPath !== null)
  }
  const limit = memory.limitedBy === 'cgroup' ? ', the limit of its control group' : ''
  const text = `${mb(memory.freeBytes)} of ${mb(memory.totalBytes)}${limit} are free; the program and its models need ${mb(needBytes)}.`
  const fewer = 'Hold fewer layers or take the recipe q4: llm-node plan says what fits.'
  if (needBytes > usableMemory(memory.totalBytes)) return fail(text, fewer)
  return needBytes > usableMemory(memory.freeBytes) ? warn(text, `Close other programs. ${fewer}`) : ok(text)
}

async function checkEngine({ config }: DoctorContext): Promise<Finding> {
  const { library = null, provider: wanted = 'cpu' } = config?.engine ?? {}
  const recipe = parseRecipe(config?.models[0]?.recipe ?? (wanted === 'cuda' ? 'q4' : 'i8'))
  const { provider, reason } = await chooseProvider(wanted, recipe, { library: library ?? undefined })
  const exam = await examineEngine(recipe, { library: library ?? undefined, provider })
  const who = provider === 'cuda' ? 'The GPU computes (CUDA)' : 'The processor computes'
  const text = `${who}; numerics class of ${recipe}: ${toHex(exam.numericsClass).slice(0, 12)}.`
  const notes = examNotes(exam)
  if (notes.length > 0) return warn(`${text} ${notes.join(' ')}`, 'Another recipe may keep the promise: llm-node setup')
  return reason === null
    ? ok(`${text} Every rule of exactness holds.`)
    : warn(`${text} ${reason}`, 'docs/gpu.md says what a GPU needs; llm-node config set engine.provider cpu')
}

function checkProcessor({ config }: DoctorContext, { cpu, gpus }: Machine): Finding {
  const features = ['amx_int8', 'avx512_vnni', 'avx_vnni', 'avx512f', 'avx2', 'i8mm', 'asimddp'].filter((name) =>
    cpu.features.has(name),
  )
  const gpu =
    gpus.length === 0 ? '' : `, GPU ${gpus.map(({ name }) => name).join(', ')} (docs/gpu.md says how it is used)`
  const text = `${cpu.cores} core${cpu.cores === 1 ? '' : 's'}, ${features.join(', ') || 'no known extensions'}${gpu}.`
  if (multipliesBytes(cpu)) return ok(`${text} The recipe i8 is best here.`)
  const slow = config?.models.filter(({ recipe }) => recipe === 'i8').map(({ name }) => name) ?? []
  return slow.length === 0
    ? ok(`${text} The recipe q4 is best here.`)
    : warn(
        `${text} It does not multiply bytes natively, so ${slow.join(', ')} in i8 is slow.`,
        'Fetch it again in q4: llm-node setup --recipe q4',
      )
}

/** Reads every file and compares its hash, as far as the time allows; the rest is checked for its length. */
async function checkModels({ home, config, signal }: DoctorContext): Promise<Finding> {
  if (config === undefined || config.models.length === 0) return skip('No model is held.')
  const started = performance.now()
  let hashed = 0
  let layers = 0
  for (const entry of config.models) {
    const folder = join(home.modelsFolder, entry.folder)
    const again = `Fetch what is damaged again: llm-node models verify --repair ${entry.name}`
    const holding = await openHolding(folder).catch((error: Error) => error)
    if (holding instanceof Error) return fail(`${entry.name}: ${holding.message}`, again)
    if (holding.recipe !== parseRecipe(entry.recipe)) {
      return fail(`${entry.name} is held in ${holding.recipe}, not in ${entry.recipe}.`, 'Run llm-node setup again.')
    }
    layers += holding.spans.reduce((sum, span) => sum + spanLength(span), 0)
    const bytes = [...holding.layers.values()].reduce((sum, layer) => sum + layer.bytes, 0)
    if (bytes > hashableBytes(performance.now() - started)) continue
    const { files, sound } = await verifyModel(folder, { signal })
    hashed += files.length
    const bad = files.filter(({ state }) => state !== 'sound').map(({ name, state }) => `${name} is ${state}`)
    if (!sound) return fail(`${entry.name}: ${bad.join(', ')}.`, again)
  }
  return ok(
    hashed > 0
      ? `${layers} layers are held; ${hashed} files have the right hash.`
      : `${layers} layers are held, all of the right length; llm-node models verify reads every byte.`,
  )
}

/** At 300 MB/s, with 3 of the 5 seconds. */
function hashableBytes(spentMs: number): number {
  return Math.max(0, 3_000 - spentMs) * 300e3
}
