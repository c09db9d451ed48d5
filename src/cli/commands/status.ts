import type { CommandModule } from 'yargs'
import type { StatusBody } from '../../api/types.ts'
import { formatSpan } from '../../base/span.ts'
import { connectAdmin } from '../../node/admin-client.ts'
import { type GlobalArguments, homeOf } from '../context.ts'
import { formatBytes, printJson, printLine } from '../output.ts'

export const statusCommand: CommandModule<GlobalArguments, GlobalArguments> = {
  command: 'status',
  describe: 'What the running node does',
  async handler(argv) {
    const admin = await connectAdmin(homeOf(argv))
    const status = await admin.get<StatusBody>('/api/status')
    if (argv.json) printJson('status', { ...status })
    else printStatus(status)
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
  for (const model of status.models) {
    const layers = model.layers === null ? 'no layers' : `layers ${formatSpan(model.layers)} of ${model.nLayers}`
    printLine(`model     ${model.name}: ${layers}${model.ends ? ', the ends' : ''}, ${model.recipe}`)
  }
  printLine(`serving   ${status.sessions} session${status.sessions === 1 ? '' : 's'}, ${decodeText(status)}`)
  printLine(`process   ${status.pid}, up ${Math.round(status.uptimeS)} s, ${formatBytes(status.rssBytes)}`)
  for (const address of status.listening) printLine(`listening ${address}`)
}

function decodeText({ decode }: StatusBody): string {
  return decode.meanMs === null ? 'no tokens yet' : `${decode.steps} steps, ${decode.meanMs.toFixed(2)} ms each`
}
