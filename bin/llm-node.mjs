#!/usr/bin/env node
/** Starts the built program, or the sources in a checkout. Must be readable by any old Node, to say that it is too old. */
import { existsSync } from 'node:fs'

const [major, minor] = process.versions.node.split('.').map(Number)
if (major < 22 || (major === 22 && minor < 18)) {
  process.stderr.write(
    `llm-node needs Node 22.18 or newer; this is ${process.versions.node}. Install one from nodejs.org, or run "npm run llm-node" in a checkout, which brings its own (NODE_TOO_OLD).\n`,
  )
  process.exitCode = 1
} else {
  const built = new URL('../dist/cli/main.js', import.meta.url)
  await import(existsSync(built) ? built.href : new URL('../src/cli/main.ts', import.meta.url).href)
}
