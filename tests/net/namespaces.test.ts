import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { expect, onTestFinished, test, vi } from 'vitest'
import { createLan } from './lan.ts'
import { isAlive, listNamespaces, namespacesUnavailable } from './namespaces.ts'

const unavailable = namespacesUnavailable()
const program = fileURLToPath(new URL('./namespaces.process.ts', import.meta.url))

/** Another test run that has a LAN with a program on it. */
async function startOther() {
  const child = spawn(process.execPath, [program], { stdio: ['ignore', 'pipe', 'inherit'] })
  onTestFinished(() => void child.kill('SIGTERM'))
  await once(child.stdout, 'data')
  const names = () => listNamespaces().flatMap(({ name, pid }) => (pid === child.pid ? [name] : []))
  const machine = names().find((name) => name.endsWith('-0')) ?? ''
  const [inside] = execFileSync('ip', ['netns', 'pids', machine], { encoding: 'utf8' }).split('\n')
  return { child, names, inside: Number(inside) }
}

test.skipIf(unavailable !== null)(
  `what a killed test run left is removed by the next, and nobody else's${unavailable === null ? '' : `: ${unavailable}`}`,
  async () => {
    const [killed, alive] = await Promise.all([startOther(), startOther()])
    expect(killed.names()).toHaveLength(2)
    killed.child.kill('SIGKILL')
    await once(killed.child, 'exit')
    expect(killed.names()).toHaveLength(2)
    const lan = await createLan({ machines: 1 })
    onTestFinished(lan.remove)
    expect(killed.names()).toEqual([])
    await vi.waitUntil(() => !isAlive(killed.inside))
    expect(alive.names()).toHaveLength(2)
    expect(isAlive(alive.inside)).toBe(true)
    // Told to end, it tidies up itself.
    alive.child.kill('SIGTERM')
    await once(alive.child, 'exit')
    expect(alive.names()).toEqual([])
  },
)
