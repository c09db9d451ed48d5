/**
 * `npm run build`: dist/ from src/ and web/, begun anew each time. `npm pack` and `npm publish` run it too, and remove it again with
 * --clean, since the bin of a checkout would otherwise go on running an old build.
 */
import { spawnSync } from 'node:child_process'
import { rmSync } from 'node:fs'
import { join } from 'node:path'

const root = join(import.meta.dirname, '..')
rmSync(join(root, 'dist'), { recursive: true, force: true })
if (!process.argv.includes('--clean')) {
  const tsc = join(root, 'node_modules/.bin/tsc')
  // stdout belongs to npm pack --json.
  const options = { cwd: root, stdio: ['ignore', 2, 2] }
  const compiled = spawnSync(tsc, ['-p', 'tsconfig.build.json'], { ...options, shell: process.platform === 'win32' })
  const bundled = spawnSync(process.execPath, [join(root, 'scripts/build-web.mjs')], options)
  process.exitCode = compiled.status || bundled.status || ((compiled.error ?? bundled.error) ? 1 : 0)
}
