/**
 * `npm test`: lint, types, dead code and all tests, one after the other, whatever fails. Arguments go to vitest
 * (npm test -- tests/unit/model). With CI set, a skipped test is a failed one. Last line: "N passed, N failed".
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const root = join(import.meta.dirname, '..')
const say = (line) => process.stdout.write(`${line}\n`)

function run(tool, args) {
  const path = join(root, 'node_modules/.bin', tool)
  const { status } = spawnSync(path, args, { cwd: root, stdio: 'inherit', shell: process.platform === 'win32' })
  return status === 0
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

function main() {
  const checks = [
    ['lint', 'biome', ['check', '--error-on-warnings', '.']],
    ['types', 'tsc', ['--noEmit']],
    ['types of the pages', 'tsc', ['--noEmit', '-p', 'web']],
    ['types of their tests', 'tsc', ['--noEmit', '-p', 'tests/web']],
    ['dead code', 'knip', ['--no-progress']],
  ]
  const failedChecks = checks.filter(([name, tool, args]) => {
    say(`— ${name}`)
    return !run(tool, args)
  })
  say('— tests')
  const folder = mkdtempSync(join(tmpdir(), 'llm-node-test-'))
  const report = join(folder, 'report.json')
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`]
  const succeeded = run('vitest', ['run', ...reporters, ...process.argv.slice(2)])
  const { passed, failed, reasons } = countTests(report, succeeded)
  rmSync(folder, { recursive: true })
  for (const [name] of failedChecks) say(`${name} failed`)
  for (const reason of reasons) say(reason)
  say(`${passed} passed, ${failed + failedChecks.length} failed`)
  process.exitCode = failed + failedChecks.length > 0 ? 1 : 0
}

main()
