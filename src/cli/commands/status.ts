import { setTimeout as delay } from 'node:timers/promises'
import type { Argv, CommandModule } from 'yargs'
import type { StatusBody } from '../../api/types.ts'
import { formatSpan } from '../../base/span.ts'
import { connectAdmin } from '../../node/admin-client.ts'
import { type GlobalArguments, homeOf } from '../context.ts'
import { interruptSignal } from '../interrupt.ts'
import { formatBytes, printJson, printLine } from '../output.ts'

interface StatusArguments extends GlobalArguments {
  watch: boolean
}

const WATCH_MS = 1_000

export const statusCommand: CommandModule<GlobalArguments, StatusArguments> = {
  command: 'status',
  describe: 'What the running node does',
  builder: (yargs): Argv<StatusArguments> =>
    yargs.option('watch', { type: 'boolean', default: false, describe: 'Again every second until Ctrl-C' }),
  async handler(argv) {
    const admin = await connectAdmin(homeOf(argv))
    const signal = interruptSignal()
    do {
      const status = await admin.get<StatusBody>('/api/status')
      // Home and clear: the picture stays in its place.
      if (argv.watch && !argv.json && process.stdout.isTTY) process.stdout.write('\x1b[H\x1b[2J')
      if (argv.json) printJson('status', { ...status })
      else printStatus(status)
      if (argv.watch) await delay(WATCH_MS, undefined, { signal }).catch(() => {})
    } while (argv.watch && !signal.aborted)
  },
}

function printStatus(status: StatusBody): void {
  for (const line of status.health) {
    printLine(`${line.ok ? 'ok  ' : '!   '}${line.text}`)
    if (line.next !== null) printLine(`      ${line.next}`)
  }
  printLine()
  printLine(`address   ${status.address}`)
  printLine(`network   ${status.network}, ${status.peers} peer${status.peers === 1 ? '' : 's'} connected`)
  printLine(`reached   ${status.reachability.word}`)
  for (const model of status.models) {
    const layers = model.layers === null ? 'no layers' : `layers ${formatSpan(model.layers)} of ${model.nLayers}`
    printLine(`model     ${model.name}: ${layers}${model.ends ? ', the ends' : ''}, ${model.recipe}`)
  }
  printLine(`serving   ${status.sessions} session${status.sessions === 1 ? '' : 's'}, ${decodeText(status)}`)
  const { relay } = status
  printLine(`relay     ${relay.on ? `${relay.circuits} of at most ${relay.most} circuits of others` : 'off'}`)
  printLine(`process   ${status.pid}, up ${Math.round(status.uptimeS)} s, ${formatBytes(status.rssBytes)}`)
  for (const address of status.listening) printLine(`listening ${address}`)
}

function decodeText({ decode }: StatusBody): string {
  return decode.meanMs === null ? 'no tokens yet' : `${decode.steps} steps, ${decode.meanMs.toFixed(2)} ms each`
}
