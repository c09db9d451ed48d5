import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { readdir, readFile, stat } from 'node:fs/promises'
import { extname, join, relative, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import type { PageFile, Pages } from '../api/pages.ts'
import { LlmNodeError } from '../base/errors.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
/** Published: dist/web beside dist/node. In a checkout: dist/web, built from web/ when that is newer. */
const folder = join(root, 'dist/web')
const sources = join(root, 'web')
const types: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.webmanifest': 'application/manifest+json',
}

/** The built pages, read into memory (about 300 KiB) when the first of them is asked for. */
export function createPages(): Pages {
  let loading: Promise<ReadonlyMap<string, PageFile>> | undefined
  return {
    async find(path) {
      loading ??= loadPages().catch((error: unknown) => {
        loading = undefined
        throw error
      })
      const files = await loading
      return files.get(path === '/' ? '/index.html' : path)
    },
  }
}

/** In a checkout: builds the pages if they are missing or older than their sources. Throws PAGES_MISSING. */
export async function ensurePages(): Promise<void> {
  const built = await stat(join(folder, 'index.html')).catch(() => undefined)
  // A published package has no sources.
  if (!existsSync(sources)) {
    if (built === undefined) throw missing('The package holds no pages.')
    return
  }
  if (built !== undefined && built.mtimeMs >= (await newest(sources))) return
  const script = join(root, 'scripts/build-web.mjs')
  await promisify(execFile)(process.execPath, [script], { cwd: root }).catch((cause: unknown) => {
    throw missing('The pages could not be built.', cause)
  })
}

async function loadPages(): Promise<ReadonlyMap<string, PageFile>> {
  await ensurePages()
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
  return new Map(
    await Promise.all(
      files.map(async (file): Promise<[string, PageFile]> => {
        const bytes = new Uint8Array(await readFile(file))
        const zipped = new Uint8Array(await promisify(gzip)(bytes, { level: 9 }))
        const path = `/${relative(folder, file).replaceAll(sep, '/')}`
        const type = types[extname(file)] ?? 'application/octet-stream'
        return [path, { type, bytes, zipped, immutable: path.startsWith('/assets/') }]
      }),
    ),
  )
}

/** Unix ms of the last change to a file below. */
async function newest(below: string): Promise<number> {
  const entries = await readdir(below, { recursive: true, withFileTypes: true })
  const times = await Promise.all(
    entries.map(async (entry) => (await stat(join(entry.parentPath, entry.name)).catch(() => undefined))?.mtimeMs ?? 0),
  )
  return Math.max(0, ...times)
}

function missing(message: string, cause?: unknown): LlmNodeError {
  return new LlmNodeError('PAGES_MISSING', message, { hint: 'Build them: npm run build-web', cause })
}
