import type { CommandModule } from 'yargs'
import { findAdmin } from '../../node/admin-client.ts'
import { setSetting } from '../../node/config-edit.ts'
import { type GlobalArguments, homeOf } from '../context.ts'
import { interruptSignal } from '../interrupt.ts'
import { printJson, printLine } from '../output.ts'

export const pauseCommand: CommandModule<GlobalArguments, GlobalArguments> = {
  command: 'pause',
  describe: 'Serve nobody until llm-node resume; this node can still ask',
  handler: (argv) => change(argv, true),
}

export const resumeCommand: CommandModule<GlobalArguments, GlobalArguments> = {
  command: 'resume',
  describe: 'Serve others again',
  handler: (argv) => change(argv, false),
}

/** Kept in the configuration, so that it also holds for the next start. */
async function change(argv: GlobalArguments, asked: boolean): Promise<void> {
  const home = homeOf(argv)
  await setSetting(home, 'care.paused', String(asked))
  const admin = await findAdmin(home)
  const running =
    admin === undefined
      ? null
      : await admin.post<{ paused: string | null }>(asked ? '/api/pause' : '/api/resume', {}, interruptSignal())
  const verb = asked ? 'pause' : 'resume'
  if (argv.json) return printJson(verb, { running: running !== null, paused: running?.paused ?? null })
  if (running === null)
    printLine(`No node runs now; ${asked ? 'it will serve nobody' : 'it serves others again'} when it starts.`)
  else if (running.paused !== null) printLine(`It serves nobody now: ${running.paused}. Running answers are finished.`)
  else printLine('It serves others.')
}
