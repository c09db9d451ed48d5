/**
 * Completes package-lock.json: npm leaves packages of other platforms out when it cannot see them while it writes the
 * lock, and `npm ci` then refuses the lock everywhere. Run it after every `npm install`: node scripts/complete-lock.mjs
 */
import { readFileSync, writeFileSync } from 'node:fs'

const systems = ['aix', 'android', 'darwin', 'freebsd', 'linux', 'openharmony', 'sunos', 'win32']
const processors = ['arm64', 'arm', 'ia32', 'loong64', 'ppc64', 'riscv64', 's390x', 'wasm32', 'x64']

/** What npm needs to know to skip the package elsewhere; such packages say it in their names (…-linux-arm64-musl). */
function platformOf(name) {
  const words = name.split('/').at(-1).split('-')
  const os = systems.find((system) => words.includes(system))
  const cpu = processors.find((processor) => words.includes(processor))
  if (os === undefined || cpu === undefined) return undefined
  const libc = words.includes('musl') ? ['musl'] : words.includes('gnu') ? ['glibc'] : undefined
  return { cpu: [cpu], ...(libc && { libc }), os: [os] }
}

/** The entries that `lock` lacks, by their path in it. Throws on one that cannot be written from its name. */
function missingEntries(lock) {
  const missing = {}
  for (const entry of Object.values(lock.packages)) {
    for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
      const path = `node_modules/${name}`
      if (Object.keys(lock.packages).some((key) => key === path || key.endsWith(`/${path}`))) continue
      const platform = platformOf(name)
      if (platform === undefined || !/^\d+\.\d+\.\d+$/.test(version))
        throw new Error(`${name}@${version}: add it by hand`)
      missing[path] = { version, ...(entry.dev && { dev: true }), optional: true, ...platform }
    }
  }
  return missing
}

const path = new URL('../package-lock.json', import.meta.url)
const lock = JSON.parse(readFileSync(path, 'utf8'))
const missing = missingEntries(lock)
const packages = Object.entries({ ...lock.packages, ...missing }).sort(([a], [b]) => (a < b ? -1 : 1))
writeFileSync(path, `${JSON.stringify({ ...lock, packages: Object.fromEntries(packages) }, null, 2)}\n`)
process.stderr.write(`package-lock.json: ${Object.keys(missing).length} packages of other platforms added\n`)
