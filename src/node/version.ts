import { readFileSync } from 'node:fs'

/** The version in package.json, beside src/ and dist/ alike. */
export function nodeVersion(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8')
  const { version } = JSON.parse(text) as { version: string }
  return version
}
