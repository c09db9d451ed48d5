import type { CommandModule } from 'yargs'
import { type GlobalArguments, homeOf } from '../context.ts'
import { interruptSignal } from '../interrupt.ts'
import { printJson, printLine } from '../output.ts'

const marks = { ok: 'ok  ', warn: '!   ', fail: 'FAIL', skip: '-   ' } as const

export const doctorCommand: CommandModule<GlobalArguments, GlobalArguments> = {
  command: 'doctor',
  describe: 'Check this machine, this home and the network, and say what to do',
  async handler(argv) {
    const { examine } = await import('../../node/examine.ts')
    const checks = await examine(homeOf(argv), interruptSignal())
    const healthy = checks.every(({ status }) => status !== 'fail')
    if (!healthy) process.exitCode = 1
    if (argv.json) return printJson('doctor', { healthy, checks })
    for (const { name, status, finding, fix } of checks) {
      printLine(`${marks[status]} ${name.padEnd(14)} ${finding}`)
      if (fix !== null) printLine(`${' '.repeat(20)}${fix}`)
    }
    printLine()
    printLine(healthy ? 'Nothing stands in the way.' : 'Something stands in the way: see above.')
  },
}
