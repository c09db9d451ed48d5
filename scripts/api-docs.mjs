/** Writes docs/api.md from the schemas of src/api: node scripts/api-docs.mjs. A test says when it is out of date. */
import { writeFileSync } from 'node:fs'
import { apiDocs } from '../src/api/api-docs.ts'

writeFileSync(new URL('../docs/api.md', import.meta.url), apiDocs())
