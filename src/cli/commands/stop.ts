import type { CommandModule } from 'yargs'
import { LlmNodeError } from '../../base/errors.ts'
import { pipelineLimits } from '../../base/limits.ts'
import { connectAdmin } from '../../node/admin-client.ts'
import { isAlive, readRunFile } from '../../node/run-file.ts'
import { type GlobalArguments, homeOf } from '../context.ts'
import { printJson, printLine } from '../output.ts'

/** Answers under way may finish first (pipelineLimits.leaveMs). */
const STOP_DEADLINE_MS = 20_000 + pipelineLimits.leaveMs
const POLL_MS = 50

export const stopCommand: CommandModule<GlobalArguments, GlobalArguments> = {
  command: 'stop',
  describe: 'Stop the node of this home',
  async handler(argv) {
    const home = homeOf(argv)
    const admin = await connectAdmin(home)
    await admin.stop()
    const deadline = performance.now() + STOP_DEADLINE_MS
    // With the run file gone, keys and ports are free again; with the process gone, everything is.
    while ((await readRunFile(home)) !== undefined || isAlive(admin.state.pid)) {
      if (performance.now() > deadline) {
        throw new LlmNodeError('INTERNAL', `The node (process ${admin.state.pid}) has not stopped yet.`, {
          hint: `Look at its log, or end it with: kill ${admin.state.pid}`,
        })
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS))
    }
    if (argv.json) printJson('stop', { stopped: true, pid: admin.state.pid })
    else printLine('Stopped.')
  },
}
