import type { Argv, CommandModule } from 'yargs'
import type { SessionBody } from '../../api/types.ts'
import { LlmNodeError } from '../../base/errors.ts'
import { pipelineLimits } from '../../base/limits.ts'
import { sleep } from '../../base/sleep.ts'
import { type AdminClient, connectAdmin } from '../../node/admin-client.ts'
import { type GlobalArguments, homeOf } from '../context.ts'
import { interruptSignal } from '../interrupt.ts'
import { printJson, printLine } from '../output.ts'

interface DrainArguments extends GlobalArguments {
  waitMs?: number | undefined
}

const LOOK_MS = 200

export const drainCommand: CommandModule<GlobalArguments, DrainArguments> = {
  command: 'drain',
  describe: 'Serve nobody new and wait until the last answer of others has gone; until resume, or the next start',
  builder: (yargs): Argv<DrainArguments> =>
    yargs.option('wait-ms', {
      type: 'number',
      describe: 'How long to wait for answers that find no other way; default: a minute',
    }),
  async handler(argv) {
    const admin = await connectAdmin(homeOf(argv))
    const signal = interruptSignal()
    // Unlike pause it is not kept in the configuration: whoever drains a node wants to stop it, and to start it as it was.
    await admin.post('/api/pause', {}, signal)
    const { waitMs = pipelineLimits.leaveMs } = argv
    const left = await waitForLast(admin, waitMs, signal)
    if (left > 0) throw stillUsed(left, waitMs)
    if (argv.json) printJson('drain', { drained: true })
    else printLine('Nobody uses this node any more. Stop it with llm-node stop, or let it serve again: llm-node resume')
  },
}

/** Sessions that are in use still: entries move them as soon as somebody else holds the layers. */
async function waitForLast(admin: AdminClient, waitMs: number, signal: AbortSignal): Promise<number> {
  const deadlineMs = performance.now() + waitMs
  for (;;) {
    const { sessions } = await admin.get<{ sessions: SessionBody[] }>('/api/sessions')
    const used = sessions.filter(({ quietMs }) => quietMs < pipelineLimits.quietMs).length
    if (used === 0 || performance.now() >= deadlineMs) return used
    await sleep(LOOK_MS, signal)
    signal.throwIfAborted()
  }
}

function stillUsed(sessions: number, waitMs: number): LlmNodeError {
  return new LlmNodeError(
    'DEADLINE',
    `After ${waitMs} ms ${sessions === 1 ? 'one session is' : `${sessions} sessions are`} in use here.`,
    { hint: 'Nobody new is served. Wait for them with llm-node drain, or cut them off: llm-node stop' },
  )
}
