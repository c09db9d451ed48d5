/**
 * Installs the dependencies when they are missing or are not those of package-lock.json; the npm scripts call it first,
 * so that `git clone` and one command are enough. Plain JavaScript that Node 20 runs: it has to work before the
 * package `node` has brought the Node that everything else needs. Writes to stderr only, nothing when up to date.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'

/** Written by npm at the very end of an install, so a broken-off one leaves none: npm's own stamp. */
const installedLock = 'node_modules/.package-lock.json'

/** What differs between the lock and what is installed, as one word for people, or undefined when nothing does. */
function difference(lock, installed) {
  for (const [path, wanted] of Object.entries(lock.packages ?? {})) {
    if (path === '') continue
    const found = installed.packages?.[path]
    if (found === undefined && (wanted.optional || wanted.devOptional)) continue
    const changed = found?.version !== wanted.version || (wanted.integrity && found.integrity !== wanted.integrity)
    if (changed) return path.replace(/^.*node_modules\//, '')
  }
  return undefined
}

function reasonToInstall(root) {
  const installedPath = join(root, installedLock)
  if (!existsSync(installedPath)) return 'the dependencies are not installed yet'
  const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'))
  try {
    const changed = difference(lock, JSON.parse(readFileSync(installedPath, 'utf8')))
    return changed && `${changed} is not the version of package-lock.json`
  } catch {
    return 'the last installation was broken off'
  }
}

/** The environment without node_modules/.bin: npm must not run on the Node that it is about to replace. */
function outerEnvironment() {
  const isOurs = (folder) => /[\\/]node_modules[\\/]\.bin[\\/]?$/.test(folder)
  const PATH = (process.env.PATH ?? '').split(delimiter).filter((folder) => !isOurs(folder))
  return { ...process.env, PATH: PATH.join(delimiter) }
}

function npmCi(root) {
  // npm sets both when it runs us; without them, npm is looked up like any command.
  const { npm_node_execpath: node, npm_execpath: npm } = process.env
  const useOuter = npm?.endsWith('.js') && node && !node.startsWith(join(root, 'node_modules')) && existsSync(node)
  const options = ['ci', '--include=dev', '--include=optional', '--loglevel=error', '--no-fund', '--no-audit']
  return spawnSync(useOuter ? node : 'npm', useOuter ? [npm, ...options] : options, {
    cwd: root,
    env: outerEnvironment(),
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
    shell: !useOuter && process.platform === 'win32',
    stdio: ['ignore', 'pipe', 'pipe'],
  })
}

/** npm's own first sentence about what went wrong. */
function npmReason({ error, signal, status, stderr }) {
  if (error) return error.message
  if (signal) return `stopped by ${signal}`
  const lines = String(stderr).split('\n')
  const facts = lines.map((line) => /^npm error (?!code |errno |syscall |path |\s)(.+)/.exec(line)?.[1])
  return facts.find((fact) => fact !== undefined) ?? lines.find((line) => line.trim() !== '') ?? `exit code ${status}`
}

function prepare(root) {
  const reason = reasonToInstall(root)
  if (reason === undefined) return
  process.stderr.write(`llm-node: ${reason}; running npm ci (about half a minute)...\n`)
  const result = npmCi(root)
  if (result.status !== 0) {
    throw new Error(`npm ci failed: ${npmReason(result)}. Check the connection to the npm registry, then try again.`)
  }
  const node = join(root, 'node_modules', '.bin', process.platform === 'win32' ? 'node.cmd' : 'node')
  const version = spawnSync(node, ['--version'], { encoding: 'utf8', shell: process.platform === 'win32' })
  if (version.status !== 0) {
    throw new Error('npm did not run the install script of the package "node". Run: npm ci --ignore-scripts=false')
  }
}

try {
  prepare(join(import.meta.dirname, '..'))
} catch (error) {
  process.stderr.write(`llm-node: ${error.message} (SETUP_FAILED)\n`)
  process.exitCode = 1
}
