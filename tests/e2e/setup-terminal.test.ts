/** The questions of `setup` in a real terminal: keys in, screen out, Ctrl-C in the middle of the download. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, expect, test } from 'vitest'
import { downloadLimits } from '../../src/base/limits.ts'
import { createFaultServer } from '../helpers/fault-server.ts'
import { createSandbox, demoModel, runJson } from './cli.ts'
import { openTerminal, terminalUnavailable } from './terminal.ts'

const unavailable = terminalUnavailable()
const cleanups: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

test.skipIf(unavailable !== null)(
  `questions, progress, Ctrl-C, and on the next run nothing is fetched twice${unavailable === null ? '' : ` (${unavailable})`}`,
  async () => {
    const sandbox = await createSandbox()
    // About 1.5 MB a second until the first run was stopped.
    let pieceMs = 10
    const mirror = await createFaultServer(demoModel, {
      pieceBytes: 16_384,
      onPiece: () => delay(pieceMs).then(() => {}),
    })
    cleanups.push(sandbox.close)
    const home = await sandbox.folder('home')
    const config = { network: { name: 'setup-terminal', mdns: false } }
    await writeFile(join(home, 'config.json'), JSON.stringify(config))

    const first = await openTerminal(['setup', '--home', home])
    cleanups.push(first.close)
    await first.shows('Name of the network?')
    await first.press('Enter')
    await first.shows('Which model?')
    await first.press('Up', 'Enter')
    await first.shows('Repository (')
    await first.type(mirror.url)
    await first.press('Enter')
    await first.shows('Which layers?')
    expect(await first.screen()).toMatch(/layers 0-11 \(5\.3 MB, less than a minute\)/)
    await first.press('Enter')
    await first.shows('to ask questions yourself?')
    await first.press('Enter')
    await first.shows(/Fetch 5\.3 MB/)
    await first.press('Enter')
    await first.shows(/fetching: [2-9]\d %/)
    await first.press('C-c')
    const stopped = await first.shows(/ended \d+/)
    expect(stopped).toContain('(ABORTED)')
    pieceMs = 0
    const before = mirror.sentBytes()

    const second = await openTerminal(['setup', '--home', home])
    cleanups.push(second.close)
    const done = await second.shows('ended 0', 30_000)
    expect(done).toContain('Going on with what was begun: layers 0-11')
    expect(done).toContain('Self-test passed')
    expect(done).toContain('Start serving with: llm-node start')
    const sent = mirror.sentBytes()
    expect(sent).toBeGreaterThan(before)

    // A run without a stop: only config and headers are read again, and what was on the way at Ctrl-C.
    const whole = await createFaultServer(demoModel)
    await runJson(['setup', '--home', sandbox.home('whole'), '--no-mdns', '--model', whole.url, '--layers', 'all'])
    expect(sent - whole.sentBytes()).toBeLessThan(downloadLimits.parallelGets * 2 * 16_384 + 64_000)
  },
)
