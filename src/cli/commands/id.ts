import { password as ask, isCancel } from '@clack/prompts'
import type { Argv, CommandModule } from 'yargs'
import { LlmNodeError } from '../../base/errors.ts'
import type { IdentityDescription } from '../../node/identity.ts'
import { type GlobalArguments, homeOf } from '../context.ts'
import { printJson, printLine, printNotice } from '../output.ts'

interface IdArguments extends GlobalArguments {
  address?: string | undefined
  qr: boolean
}

interface FileArguments extends GlobalArguments {
  file: string
}

const rotateId: CommandModule<GlobalArguments, GlobalArguments> = {
  command: 'rotate',
  describe: 'Make a new onion key now; address and safety number stay',
  async handler(argv) {
    const { rotateIdentity } = await import('../../node/identity.ts')
    const identity = await rotateIdentity(homeOf(argv))
    if (argv.json) return printJson('id-rotate', { ...identity })
    printLine(`${identity.address} has a new onion key.`)
  },
}

const exportId: CommandModule<GlobalArguments, FileArguments> = {
  command: 'export <file>',
  describe: 'Write the keys of this home to a file, under a password',
  builder: fileOption,
  async handler(argv) {
    const { exportIdentity } = await import('../../node/identity.ts')
    await exportIdentity(homeOf(argv), argv.file, await newPassword('for the file'))
    if (argv.json) return printJson('id-export', { file: argv.file })
    printLine(`Written to ${argv.file}. Who has it and the password is this node.`)
  },
}

const importId: CommandModule<GlobalArguments, FileArguments> = {
  command: 'import <file>',
  describe: 'Take over exported keys into a home that has none',
  builder: fileOption,
  async handler(argv) {
    const { importIdentity } = await import('../../node/identity.ts')
    const identity = await importIdentity(homeOf(argv), argv.file, await readPassword('Password of the file?'))
    printIdentity(identity, argv.json, 'id-import')
    printNotice('Two nodes must not run with the same keys at once.')
  },
}

const protectId: CommandModule<GlobalArguments, GlobalArguments & { off: boolean }> = {
  command: 'protect',
  describe: 'Protect all keys of this home with a password (start with LLM_NODE_KEY_PASSWORD then)',
  builder: (yargs) => yargs.option('off', { type: 'boolean', default: false, describe: 'Take the password away' }),
  async handler(argv) {
    const { protectIdentity } = await import('../../node/identity.ts')
    await protectIdentity(homeOf(argv), argv.off ? null : await newPassword('for the keys'))
    if (argv.json) return printJson('id-protect', { protected: !argv.off })
    printLine(argv.off ? 'The keys have no password now.' : 'The keys are protected.')
  },
}

export const idCommand: CommandModule<GlobalArguments, IdArguments> = {
  command: 'id [address]',
  describe: 'This node’s address and safety number, or check another one; rotate, export, import, protect its keys',
  builder: (yargs): Argv<IdArguments> =>
    yargs
      .positional('address', { type: 'string', describe: 'An .llm address to check' })
      .option('qr', { type: 'boolean', default: false, describe: 'Also as a QR code, for a phone' })
      .command(rotateId)
      .command(exportId)
      .command(importId)
      .command(protectId),
  async handler(argv) {
    const { describeIdentity } = await import('../../node/identity.ts')
    const identity = await describeIdentity(homeOf(argv), argv.address)
    printIdentity(identity, argv.json, 'id')
    if (!argv.qr || argv.json) return
    const { qrText } = await import('../qr.ts')
    printLine(`\n${qrText(`llm://${identity.address}`)}`)
  },
}

function printIdentity(identity: IdentityDescription, json: boolean, verb: string): void {
  if (json) {
    printJson(verb, { ...identity })
    return
  }
  printLine(`address        ${identity.address}`)
  printLine(`safety number  ${identity.safetyNumber}`)
  if (identity.peerId !== null) printLine(`peer id        ${identity.peerId}`)
}

function fileOption(yargs: Argv<GlobalArguments>): Argv<FileArguments> {
  return yargs.positional('file', { type: 'string', demandOption: true, describe: 'File of the exported keys' })
}

async function newPassword(what: string): Promise<string> {
  const first = await readPassword(`A password ${what}?`)
  if (process.env.LLM_NODE_NEW_PASSWORD !== undefined) return first
  if ((await readPassword('The same again?')) === first) return first
  throw new LlmNodeError('BAD_INPUT', 'The two passwords differ.', { hint: 'Try again.' })
}

/** Never from a flag: others on the machine can read those. */
async function readPassword(message: string): Promise<string> {
  const given = process.env.LLM_NODE_NEW_PASSWORD
  if (given !== undefined) return given
  if (!process.stdin.isTTY) {
    throw new LlmNodeError('BAD_INPUT', 'A password is needed, and nobody can be asked.', {
      hint: 'Give it in the environment variable LLM_NODE_NEW_PASSWORD.',
    })
  }
  const answer = await ask({ message })
  if (isCancel(answer)) throw new LlmNodeError('ABORTED', 'Stopped on request.')
  return answer
}
