/** Writes man/llm-node.1 from the definitions of the verbs: node scripts/man-page.mjs. A test says when it is out of date. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { manPage } from '../src/cli/man-page.ts'

const folder = new URL('../man/', import.meta.url)
mkdirSync(folder, { recursive: true })
writeFileSync(new URL('llm-node.1', folder), await manPage())
