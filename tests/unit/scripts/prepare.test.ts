import { spawnSync } from 'node:child_process'
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'

interface LockEntry {
  version?: string
  integrity?: string
  optional?: boolean
  optionalDependencies?: Record<string, string>
}
interface Lock {
  packages: Record<string, LockEntry>
}

const repository = join(import.meta.dirname, '../../..')
const lock: Lock = {
  packages: {
    '': { version: '1.0.0' },
    'node_modules/a': { version: '1.0.0', integrity: 'sha512-a' },
    'node_modules/elsewhere': { version: '1.0.0', optional: true },
  },
}
let folder: string

/** A checkout whose `npm` writes its arguments into npm.log and then runs `script`. */
async function checkout(installed: Lock | undefined, script: string): Promise<void> {
  await mkdir(join(folder, 'scripts'))
  await cp(join(repository, 'scripts/prepare.mjs'), join(folder, 'scripts/prepare.mjs'))
  await writeFile(join(folder, 'package-lock.json'), JSON.stringify(lock))
  await mkdir(join(folder, 'tools'))
  await writeFile(join(folder, 'tools/npm'), `#!/bin/sh\necho "$@" > npm.log\n${script}\n`, { mode: 0o755 })
  if (installed === undefined) return
  await mkdir(join(folder, 'node_modules'))
  await writeFile(join(folder, 'node_modules/.package-lock.json'), JSON.stringify(installed))
}

function prepare() {
  const { npm_execpath: _npm, npm_node_execpath: _node, ...env } = process.env
  const path = [join(folder, 'tools'), dirname(process.execPath), process.env.PATH].join(delimiter)
  const script = join(folder, 'scripts/prepare.mjs')
  return spawnSync(process.execPath, [script], { env: { ...env, PATH: path }, encoding: 'utf8' })
}

const npmLog = () => readFile(join(folder, 'npm.log'), 'utf8')

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'llm-node-prepare-'))
})

afterEach(() => rm(folder, { recursive: true, force: true }))

const bringNode =
  'mkdir -p node_modules/.bin && printf "#!/bin/sh\\n" > node_modules/.bin/node && chmod +x node_modules/.bin/node'

test('does nothing and says nothing when what is installed is what the lock says', async () => {
  await checkout({ packages: { 'node_modules/a': { version: '1.0.0', integrity: 'sha512-a' } } }, 'exit 1')
  const { status, stdout, stderr } = prepare()
  expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: '', stderr: '' })
  await expect(npmLog()).rejects.toThrow('ENOENT')
})

test.each([
  ['nothing is installed', undefined, 'not installed yet'],
  ['another version is installed', { packages: { 'node_modules/a': { version: '0.9.0' } } }, 'a is not the version'],
  [
    'other bytes are installed',
    { packages: { 'node_modules/a': { version: '1.0.0', integrity: 'sha512-b' } } },
    'a is not the version',
  ],
])('runs npm ci when %s', async (_when, installed, reason) => {
  await checkout(installed, bringNode)
  const { status, stdout, stderr } = prepare()
  expect({ status, stdout }).toEqual({ status: 0, stdout: '' })
  expect(stderr).toContain(reason)
  expect(await npmLog()).toMatch(/^ci .*--include=dev/)
})

test('says in one line what npm said when npm fails', async () => {
  const npm = 'echo "npm error code EX" >&2; echo "npm error no such registry" >&2; exit 1'
  await checkout(undefined, npm)
  const { status, stdout, stderr } = prepare()
  expect({ status, stdout }).toEqual({ status: 1, stdout: '' })
  expect(stderr.trim().split('\n').at(-1)).toMatch(/^llm-node: npm ci failed: no such registry\. .* \(SETUP_FAILED\)$/)
})

test('says what to do when npm was told to run no install scripts', async () => {
  await checkout(undefined, 'mkdir -p node_modules')
  const { status, stderr } = prepare()
  expect(status).toBe(1)
  expect(stderr).toContain('npm ci --ignore-scripts=false')
})

test('the lock names the packages of every platform, or npm ci refuses it (scripts/complete-lock.mjs)', async () => {
  const { packages }: Lock = JSON.parse(await readFile(join(repository, 'package-lock.json'), 'utf8'))
  const names = new Set(Object.keys(packages).map((path) => path.replace(/^.*node_modules\//, '')))
  const optional = Object.values(packages).flatMap((entry) => Object.keys(entry.optionalDependencies ?? {}))
  expect(optional.length).toBeGreaterThan(20)
  expect(optional.filter((name) => !names.has(name))).toEqual([])
})
