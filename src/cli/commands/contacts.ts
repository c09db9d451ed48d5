import { createInterface } from 'node:readline/promises'
import type { Argv, CommandModule } from 'yargs'
import { type GlobalArguments, homeOf } from '../context.ts'
import { formatTable, printJson, printLine, printNotice } from '../output.ts'

interface AddArguments extends GlobalArguments {
  petname: string
  address: string
  replace: boolean
}

const add: CommandModule<GlobalArguments, AddArguments> = {
  command: 'add <petname> <address>',
  describe: 'Give an address a name that only you use',
  builder: (yargs): Argv<AddArguments> =>
    yargs
      .positional('petname', { type: 'string', demandOption: true, describe: 'The name' })
      .positional('address', {
        type: 'string',
        demandOption: true,
        describe: 'ADDRESS.llm or llm://ADDRESS?a=MULTIADDR',
      })
      .option('replace', { type: 'boolean', default: false, describe: 'Take another address for a known name' }),
  async handler(argv) {
    const { addContact, parseTarget } = await import('../../node/contacts.ts')
    const home = homeOf(argv)
    const { addressKey, addrs } = await parseTarget(home, argv.address)
    const { contact, safetyNumber, warnings } = await addContact(home, { ...argv, addressKey, addrs })
    if (argv.json) return printJson('contacts-add', { contact, safetyNumber, warnings })
    for (const warning of warnings) printNotice(`WARNING: ${warning}`)
    printLine(`${contact.petname}  ${contact.address}`)
    printLine(`safety number  ${safetyNumber}`)
    if (!contact.verified)
      printNotice(
        `Compare it with ${contact.petname}, then: llm-node contacts verify ${JSON.stringify(contact.petname)}`,
      )
  },
}

const list: CommandModule<GlobalArguments, GlobalArguments> = {
  command: 'ls',
  describe: 'The names and their addresses',
  async handler(argv) {
    const { listContacts } = await import('../../node/contacts.ts')
    const contacts = await listContacts(homeOf(argv))
    if (argv.json) return printJson('contacts-ls', { contacts })
    if (contacts.length === 0)
      return printLine('There are no contacts. Add one: llm-node contacts add NAME ADDRESS.llm')
    const rows = contacts.map(({ petname, address, verified }) => [petname, verified ? 'yes' : 'no', address])
    printLine(formatTable(['name', 'verified', 'address'], rows))
  },
}

type NameArguments = GlobalArguments & { name: string }

const nameOption = (yargs: Argv<GlobalArguments>): Argv<NameArguments> =>
  yargs.positional('name', { type: 'string', demandOption: true, describe: 'Petname or address' })

const remove: CommandModule<GlobalArguments, NameArguments> = {
  command: 'rm <name>',
  describe: 'Forget a contact',
  builder: nameOption,
  async handler(argv) {
    const { removeContact } = await import('../../node/contacts.ts')
    const { petname, address } = await removeContact(homeOf(argv), argv.name)
    if (argv.json) return printJson('contacts-rm', { petname, address })
    printLine(`Removed: ${petname}`)
  },
}

interface VerifyArguments extends NameArguments {
  yes: boolean
  number?: string | undefined
}

const verify: CommandModule<GlobalArguments, VerifyArguments> = {
  command: 'verify <name>',
  describe: 'Compare the safety number aloud, and remember that it agrees',
  builder: (yargs): Argv<VerifyArguments> =>
    nameOption(yargs)
      .option('number', { type: 'string', describe: 'The number that the other side reads out' })
      .option('yes', { type: 'boolean', default: false, describe: 'The numbers agree' }),
  async handler(argv) {
    const { getContact, markVerified } = await import('../../node/contacts.ts')
    const { describeIdentity } = await import('../../node/identity.ts')
    const home = homeOf(argv)
    const contact = await getContact(home, argv.name)
    const { safetyNumber } = await describeIdentity(home, contact.address)
    const agreed = await agrees(argv, contact.petname, safetyNumber)
    if (agreed) await markVerified(home, contact.address)
    else process.exitCode = 5
    if (argv.json) return printJson('contacts-verify', { petname: contact.petname, safetyNumber, verified: agreed })
    printLine(
      agreed
        ? `${contact.petname} is verified.`
        : `${contact.petname} is NOT verified: the numbers differ, or were not compared. Trust this address with nothing.`,
    )
  },
}

async function agrees(argv: VerifyArguments, petname: string, safetyNumber: string): Promise<boolean> {
  if (argv.number !== undefined) return argv.number.replaceAll(/\D/g, '') === safetyNumber.replaceAll(' ', '')
  if (argv.yes) return true
  if (argv.json || !process.stdin.isTTY) return false
  printLine(`safety number of ${petname}:  ${safetyNumber}`)
  const input = createInterface({ input: process.stdin, output: process.stderr })
  try {
    return /^y(es)?$/i.test((await input.question('Does the other side read out the same number? [y/N] ')).trim())
  } finally {
    input.close()
  }
}

export const contactsCommand: CommandModule<GlobalArguments, GlobalArguments> = {
  command: 'contacts',
  describe: 'Your own names for .llm addresses',
  builder: (yargs) =>
    yargs
      .command(add)
      .command(list)
      .command(remove)
      .command(verify)
      .demandCommand(1, 'Say what to do: add, ls, rm or verify.'),
  handler: () => {},
}
