/** Makes a LAN with a program on it, and waits to be killed or told to end. */
import { createLan } from './lan.ts'

process.once('SIGTERM', () => process.exit())
const lan = await createLan({ machines: 1 })
lan
  .spawn(0, process.execPath, ['-e', 'process.stdout.write("up"); setInterval(() => {}, 1000)'])
  .stdout?.once('data', () => process.stdout.write(`${process.pid}\n`))
