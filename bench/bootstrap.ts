/**
 * A bootstrap node, a process of its own, under a rush of newcomers on loopback: 1,000 light peers (real TCP,
 * noise, yamux, identify and DHT) join within a minute, each provides a meeting point and asks for others, and all stay. What
 * joins and DHT queries take, what is lost, and how its memory grows. --quick: 150 within 9 s.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { benchOptions, median, quantile, reportFigures } from './lib/harness.ts'
import type { JoinOptions, JoinReport } from './lib/joiners.process.ts'

const options = benchOptions()
const [PEERS, OVER_MS] = options.quick ? [150, 9_000] : [1_000, 60_000]
const PROCESSES = options.quick ? 1 : 4
const NETWORK = 'bench'
const at = (path: string) => fileURLToPath(new URL(path, import.meta.url))

function firstLine(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    child.once('exit', (code) => reject(new Error(`a process ended with ${code}`)))
    if (child.stdout !== null) createInterface({ input: child.stdout }).once('line', resolve)
  })
}

/** Gauges of a running bootstrap node, by name. */
async function readMetrics(url: string): Promise<(name: string) => number> {
  const text = await (await fetch(`${url}/metrics`)).text()
  return (name) => Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1] ?? Number.NaN)
}

function startJoiners(bootstrap: string): { child: ChildProcess; report: Promise<JoinReport> }[] {
  return Array.from({ length: PROCESSES }, () => {
    const wanted: JoinOptions = { bootstrap, network: NETWORK, count: PEERS / PROCESSES, overMs: OVER_MS, queries: 5 }
    const child = spawn(process.execPath, [at('lib/joiners.process.ts'), JSON.stringify(wanted)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    return { child, report: firstLine(child).then((line) => JSON.parse(line) as JoinReport) }
  })
}

const home = await mkdtemp(join(tmpdir(), 'llm-bench-'))
const flags = ['--network', NETWORK, '--no-mdns', '--host', '127.0.0.1', '--port', '0', '--http-port', '0']
const node = spawn(
  process.execPath,
  [at('../src/cli/main.ts'), 'bootstrap', 'run', '--json', '--home', home, ...flags],
  {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, LLM_NODE_UPNP: 'false' },
  },
)
const joiners: ReturnType<typeof startJoiners> = []
try {
  const { listening, url } = JSON.parse(await firstLine(node)) as { listening: string[]; url: string }
  const before = await readMetrics(url)
  joiners.push(...startJoiners(listening[0] ?? ''))
  const reports = await Promise.all(joiners.map(({ report }) => report))
  const after = await readMetrics(url)
  const joinMs = reports.flatMap((report) => report.joinMs)
  const queryMs = reports.flatMap((report) => report.queryMs)
  const lost = reports.reduce((sum, report) => sum + report.lost, 0)
  const rss = (read: typeof after) => read('process_resident_memory_bytes') / 1e6
  const figures = {
    bootstrapJoins: joinMs.length,
    bootstrapConnections: after('llm_bootstrap_connections'),
    bootstrapLost: lost,
    bootstrapJoinMedianMs: median(joinMs),
    bootstrapJoinP99Ms: quantile(joinMs, 0.99),
    bootstrapQueries: queryMs.length,
    bootstrapQueryMedianMs: median(queryMs),
    bootstrapQueryP99Ms: quantile(queryMs, 0.99),
    bootstrapRssBeforeMb: rss(before),
    bootstrapRssMb: rss(after),
    bootstrapHeapMb: after('nodejs_heap_size_used_bytes') / 1e6,
    bootstrapExternalMb: after('nodejs_external_memory_bytes') / 1e6,
    bootstrapKbPerPeer: ((rss(after) - rss(before)) * 1e3) / Math.max(1, joinMs.length),
    bootstrapCpuS: after('process_cpu_seconds_total') - before('process_cpu_seconds_total'),
  }
  console.log(
    `${PEERS} peers join within ${OVER_MS / 1_000} s, ${PROCESSES} processes of light peers beside the node\n`,
  )
  for (const [name, value] of Object.entries(figures)) {
    console.log(`${name.replace('bootstrap', '').padEnd(18)} ${Number.isInteger(value) ? value : value.toFixed(1)}`)
  }
  reportFigures('bootstrap', figures, options)
} finally {
  for (const { child } of joiners) child.kill('SIGKILL')
  node.kill('SIGKILL')
  await rm(home, { recursive: true, force: true })
}
