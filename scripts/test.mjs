/**
 * `npm test`: lint, types, dead code and all tests, whatever fails. Arguments go to vitest (npm test -- tests/unit/model).
 * With CI set, a skipped test is a failed one. Last line: "N passed, N failed".
 */
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const root = join(import.meta.dirname, '..')
const say = (line) => process.stdout.write(`${line}\n`)

const checks = [
  ['lint', 'biome', ['check', '--error-on-warnings', '.']],
  ['types', 'tsc', ['--noEmit']],
  ['types of the pages', 'tsc', ['--noEmit', '-p', 'web']],
  ['types of their tests', 'tsc', ['--noEmit', '-p', 'tests/web']],
  ['dead code', 'knip', ['--no-progress']],
]

/**
 * Kinds of tests that run at the same time stand side by side. Unit and integration tests keep every core busy; those
 * with processes, a browser or network namespaces run file by file and wait for each other most of the time.
 */
const rounds = [[['unit', 'integration']], [['e2e'], ['web', 'net', 'chaos']]]

/** Resolves to whether it succeeded. What a `quiet` one says is said when it has ended. */
function run(tool, args, { quiet = false } = {}) {
  const path = join(root, 'node_modules/.bin', tool)
  const stdio = quiet ? ['ignore', 'pipe', 'pipe'] : 'inherit'
  const child = spawn(path, args, { cwd: root, stdio, shell: process.platform === 'win32' })
  const said = []
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk) => said.push(chunk))
  return new Promise((resolve) => {
    child.once('error', () => resolve(false))
    child.once('close', (status) => {
      for (const chunk of said) process.stdout.write(chunk)
      resolve(status === 0)
    })
  })
}

/** What vitest's JSON report says, and what it does not: files that could not be loaded, errors outside of tests. */
function countTests(path, succeeded) {
  let report
  try {
    report = JSON.parse(readFileSync(path, 'utf8'))
  } catch {
    return { passed: 0, failed: 1, reasons: ['vitest wrote no report'] }
  }
  const reasons = []
  const notLoaded = report.testResults.filter((file) => file.status === 'failed' && file.assertionResults.length === 0)
  const skipped = process.env.CI ? report.numPendingTests + report.numTodoTests : 0
  let failed = report.numFailedTests + notLoaded.length + skipped
  if (notLoaded.length > 0) reasons.push(`${notLoaded.length} test files could not be loaded`)
  if (skipped > 0) reasons.push(`${skipped} tests were skipped`)
  if (report.numPassedTests === 0 || (!succeeded && failed === 0)) {
    failed++
    reasons.push(report.numPassedTests === 0 ? 'no test passed' : 'errors outside of tests')
  }
  return { passed: report.numPassedTests, failed, reasons }
}

async function runTests(name, args, folder, options) {
  const report = join(folder, `${name}.json`)
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`]
  return countTests(report, await run('vitest', ['run', ...reporters, ...args], options))
}

async function main() {
  const failedChecks = []
  for (const [name, tool, args] of checks) {
    say(`— ${name}`)
    if (!(await run(tool, args))) failedChecks.push(`${name} failed`)
  }
  const folder = mkdtempSync(join(tmpdir(), 'llm-node-test-'))
  const counts = []
  const given = process.argv.slice(2)
  if (given.length > 0) counts.push(await runTests('given', given, folder))
  for (const lanes of given.length > 0 ? [] : rounds) {
    const running = lanes.map((kinds, at) => {
      say(`— ${kinds.join(' and ')} tests`)
      const projects = kinds.flatMap((kind) => ['--project', kind])
      return runTests(kinds.join('-'), projects, folder, { quiet: at > 0 })
    })
    counts.push(...(await Promise.all(running)))
  }
  rmSync(folder, { recursive: true })
  const passed = counts.reduce((sum, count) => sum + count.passed, 0)
  const failed = counts.reduce((sum, count) => sum + count.failed, failedChecks.length)
  for (const reason of [...failedChecks, ...counts.flatMap(({ reasons }) => reasons)]) say(reason)
  say(`${passed} passed, ${failed} failed`)
  process.exitCode = failed > 0 ? 1 : 0
}

await main()
