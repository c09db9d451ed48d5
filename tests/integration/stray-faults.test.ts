import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

const program = fileURLToPath(new URL('stray-faults.process.ts', import.meta.url))

function run(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [program, ...args], (_error, stdout, stderr) => {
      resolve({ code: child.exitCode ?? -1, stdout, stderr })
    })
  })
}

test('a listener that throws and a promise that is forgotten are logged, and the process goes on', async () => {
  const { code, stdout, stderr } = await run()
  expect([code, stdout]).toEqual([0, 'still here\n'])
  expect(stderr).toContain('"message":"a listener"')
  expect(stderr).toContain('"message":"a promise"')
  expect(stderr.match(/the node goes on/g)).toHaveLength(2)
})

test('too many of them in a minute end it', async () => {
  const { code, stdout, stderr } = await run('flood')
  expect([code, stdout]).toEqual([1, ''])
  expect(stderr).toContain('too many faults in a minute')
})

test('connections that end while they are written to are no faults, however many', async () => {
  expect(await run('ended')).toEqual({ code: 0, stdout: 'still here\n', stderr: '' })
})
