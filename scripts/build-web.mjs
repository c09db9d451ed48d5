/**
 * The pages: web/ → dist/web. Built beside its place and moved there, so that nobody ever sees half of it; several may
 * build at once. Writes to stderr only.
 */
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { build } from 'vite'

const root = join(import.meta.dirname, '..')
const target = join(root, 'dist/web')

mkdirSync(join(root, 'dist'), { recursive: true })
const folder = mkdtempSync(join(root, 'dist/.web-'))
try {
  await build({
    root: join(root, 'web'),
    configFile: false,
    envFile: false,
    logLevel: 'error',
    oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
    build: {
      outDir: folder,
      emptyOutDir: true,
      target: 'es2022',
      // Data addresses of fonts and images would need a wider policy.
      assetsInlineLimit: 0,
      modulePreload: { polyfill: false },
      reportCompressedSize: false,
    },
  })
  rmSync(target, { recursive: true, force: true })
  renameSync(folder, target)
} catch (error) {
  // Another one has moved its own there in between.
  if (!(['ENOTEMPTY', 'EEXIST', 'EPERM'].includes(error.code) && existsSync(join(target, 'index.html')))) throw error
} finally {
  rmSync(folder, { recursive: true, force: true })
}
