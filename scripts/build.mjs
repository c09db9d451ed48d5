/**
 * `npm run build`: dist/ from src/, begun anew each time. `npm pack` and `npm publish` run it too, and remove it again with
 * --clean, since the bin of a checkout would otherwise go on running an old build.
 */
import { spawnSync } from 'node:child_process'
import { rmSync } from 'node:fs'
import { join } from 'node:path'

const root = join(import.meta.dirname, '..')
rmSync(join(root, 'dist'), { recursive: true, force: true })
if (!process.argv.includes('--clean')) {
  const tsc = join(root, 'node_modules/.bin/tsc')
  const { status } = spawnSync(tsc, ['-p', 'tsconfig.build.json'], {
    cwd: root,
    // stdout belongs to npm pack --json.
    stdio: ['ignore', 2, 2],
    shell: process.platform === 'win32',
  })
  process.exitCode = status ?? 1
}
