import { formatSpan } from '../base/span.ts'
import type { DemoReporter, DemoResult } from '../node/demo/run.ts'
import { formatBytes, formatTable, printLine } from './output.ts'

export function createReporter({ quiet }: { quiet: boolean }): DemoReporter {
  if (quiet) return { step() {}, text() {}, result() {} }
  let answering = false
  return {
    step(text) {
      if (answering) printLine('\n')
      answering = false
      printLine(text)
    },
    text(piece) {
      if (!answering) printLine()
      answering = true
      process.stdout.write(piece)
    },
    result(result) {
      printLine(nodeTable(result))
      printLine()
      printLine(`pipeline: ${speed(result.pipeline.tokensPerSecond)} over three nodes, ${result.pipeline.profile}`)
      printLine(`alone:    ${speed(result.single.tokensPerSecond)} in one process`)
      printLine(`identical to one process: ${result.identical ? 'yes' : 'NO'}`)
    },
  }
}

function nodeTable({ nodes }: DemoResult): string {
  const rows = nodes.map((node, index) => [
    `${index + 1}`,
    node.address,
    formatSpan(node.span),
    `${formatBytes(node.bytesDownloaded)} of ${formatBytes(node.bytesOfModel)}`,
    node.msPerToken === null ? '-' : node.msPerToken.toFixed(2),
  ])
  return formatTable(['node', 'address', 'layers', 'downloaded', 'ms per token'], rows)
}

function speed(tokensPerSecond: number | null): string {
  return tokensPerSecond === null ? 'too short to measure' : `${tokensPerSecond.toFixed(0)} tokens/s`
}
