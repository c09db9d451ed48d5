import type { Argv, CommandModule } from 'yargs'
import { type GlobalArguments, homeOf } from '../context.ts'
import { interruptSignal } from '../interrupt.ts'
import { formatBytes, formatTable, printJson, printLine, printNotice } from '../output.ts'
import { describeMachine } from '../plan-report.ts'

interface BenchArguments extends GlobalArguments {
  model?: string | undefined
}

export const benchCommand: CommandModule<GlobalArguments, BenchArguments> = {
  command: 'bench',
  describe: 'Measure this machine: memory, disk, and a layer of a model in every recipe',
  builder: (yargs): Argv<BenchArguments> =>
    yargs.option('model', { type: 'string', describe: 'Whose shape: repository, folder, or one of the catalogue' }),
  async handler(argv) {
    const { benchMachine } = await import('../../node/bench-machine.ts')
    printNotice('Measuring; close other programs for honest figures …')
    const found = await benchMachine(homeOf(argv), { model: argv.model, signal: interruptSignal() })
    if (argv.json) {
      const { cpu } = found.machine
      const machine = { ...found.machine, cpu: { ...cpu, features: [...cpu.features] } }
      return printJson('bench', { ...found, machine })
    }
    printLine(`this machine  ${describeMachine(found.machine)}`)
    printLine(`memory        ${formatBytes(found.memoryBytesPerSecond)}/s read by one core`)
    printLine(`disk          ${formatBytes(found.diskBytesPerSecond)}/s written`)
    printLine(`model         ${found.model}, ${found.nLayers} layers`)
    printLine()
    const rows = found.recipes.map(({ recipe, measured, layer, solo }) => [
      recipe,
      layer.decodeMs.toFixed(2),
      layer.prefillMs.toFixed(3),
      solo === null ? '-' : solo.toFixed(1),
      measured ? '' : 'from the speed of the memory',
    ])
    printLine(formatTable(['recipe', 'ms a layer, token', 'ms a layer, prompt token', 'tokens/s alone', ''], rows))
  },
}
