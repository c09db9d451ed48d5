import type { Argv, CommandModule } from 'yargs'
import { type GlobalArguments, homeOf } from '../context.ts'
import { printJson, printLine, printNotice } from '../output.ts'

interface InviteArguments extends GlobalArguments {
  petname?: string | undefined
}

export const inviteCommand: CommandModule<GlobalArguments, InviteArguments> = {
  command: 'invite',
  describe: 'One line with which a friend joins this node’s network',
  builder: (yargs): Argv<InviteArguments> =>
    yargs.option('petname', { type: 'string', describe: 'Your name, saved by the friend with this node’s address' }),
  async handler(argv) {
    const { inviteOf } = await import('../../node/joining.ts')
    const { line, invite } = await inviteOf(homeOf(argv), argv.petname)
    if (argv.json) {
      const { network, bootstrap, model = null } = invite
      return printJson('invite', {
        invite: line,
        network,
        private: invite.preSharedKey !== undefined,
        bootstrap,
        model,
      })
    }
    printLine(line)
    printNotice('They run: llm-node join INVITE')
    if (invite.preSharedKey !== undefined) {
      printNotice('It holds the key of this private network: whoever has this line is a member.')
    }
    if (invite.bootstrap.length === 0) {
      printNotice('It holds no address, so it serves on this local network only. Start the node and ask again.')
    }
  },
}

export const joinCommand: CommandModule<GlobalArguments, GlobalArguments & { invite: string }> = {
  command: 'join <invite>',
  describe: 'Join the network of an invite',
  builder: (yargs): Argv<GlobalArguments & { invite: string }> =>
    yargs.positional('invite', { type: 'string', demandOption: true, describe: 'The line that a member has sent' }),
  async handler(argv) {
    const { joinNetwork } = await import('../../node/joining.ts')
    const { contact, ...joined } = await joinNetwork(homeOf(argv), argv.invite)
    if (argv.json)
      return printJson('join', { ...joined, contact: contact?.contact ?? null, warnings: contact?.warnings ?? [] })
    printLine(`network   ${joined.network}${joined.private ? ' (private)' : ''}`)
    for (const addr of joined.bootstrap) printLine(`meets at  ${addr}`)
    if (contact !== null) {
      printLine(`contact   ${contact.contact.petname}, ${contact.contact.address}`)
      printLine(`          safety number ${contact.safetyNumber}: compare it with ${contact.contact.petname}`)
      for (const warning of contact.warnings) printNotice(`WARNING: ${warning}`)
    }
    printLine(`Next: llm-node setup${joined.model === null ? '' : ` --model ${joined.model}`}, then llm-node start`)
  },
}

interface NetworkArguments extends GlobalArguments {
  name: string
  private: boolean
}

const newNetwork: CommandModule<GlobalArguments, NetworkArguments> = {
  command: 'new <name>',
  describe: 'Found a network, and leave the present one',
  builder: (yargs): Argv<NetworkArguments> =>
    yargs
      .positional('name', { type: 'string', demandOption: true, describe: 'a-z, 0-9, dot and dash' })
      .option('private', { type: 'boolean', default: false, describe: 'Only for those who have an invite' }),
  async handler(argv) {
    const { foundNetwork } = await import('../../node/joining.ts')
    await foundNetwork(homeOf(argv), argv.name, { private: argv.private })
    if (argv.json) return printJson('network-new', { network: argv.name, private: argv.private })
    printLine(`This node now belongs to ${argv.name}${argv.private ? ', a private network' : ''}.`)
    printLine('Invite others with: llm-node invite')
  },
}

export const networkCommand: CommandModule<GlobalArguments, GlobalArguments> = {
  command: 'network',
  describe: 'Found a network of your own',
  builder: (yargs) => yargs.command(newNetwork).demandCommand(1, 'Say what to do, for example: network new NAME'),
  handler: () => {},
}
