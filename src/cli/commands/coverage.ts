import type { CommandModule } from 'yargs'
import type { CoverageBody } from '../../api/types.ts'
import { formatSpan } from '../../base/span.ts'
import { connectAdmin } from '../../node/admin-client.ts'
import { type GlobalArguments, homeOf } from '../context.ts'
import { formatTable, printJson, printLine, shortAddress } from '../output.ts'

export const coverageCommand: CommandModule<GlobalArguments, GlobalArguments> = {
  command: 'coverage',
  describe: 'Which layers the swarm holds, and how often',
  async handler(argv) {
    const admin = await connectAdmin(homeOf(argv))
    const coverage = await admin.get<CoverageBody>('/api/coverage')
    if (argv.json) return printJson('coverage', { ...coverage })
    if (coverage.models.length === 0) return printLine('No model is known here yet.')
    for (const model of coverage.models) printModel(model)
  },
}

function printModel(model: CoverageBody['models'][number]): void {
  printLine(`${model.name ?? model.modelId.slice(0, 12)} (${model.recipe})`)
  const rows = model.holders.map((holder) => [
    `${shortAddress(holder.address)}${holder.self ? ' (this node)' : ''}`,
    formatSpan(holder.span),
    holder.state,
    model.replicas.map((_, layer) => (layer >= holder.span.start && layer < holder.span.end ? '#' : '.')).join(''),
  ])
  rows.push(['replicas', '', '', model.replicas.map((count) => (count > 9 ? '+' : `${count}`)).join('')])
  printLine(formatTable(['peer', 'layers', 'state', 'map'], rows))
  if (model.complete) printLine('Every layer is held.')
  else printLine(`Held by nobody: layers ${model.gaps.map(formatSpan).join(', ')}.`)
  printLine()
}
