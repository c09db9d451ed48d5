import { environmentSettings } from '../base/config.ts'
import { createProgram, verbs } from './program.ts'

const WIDTH = 78

/** The manual page llm-node(1) in roff, from the same definitions as --help. */
export async function manPage(): Promise<string> {
  const sections = [
    '.\\" Written by scripts/man-page.mjs',
    '.TH LLM-NODE 1 "" "llm-node" "User Commands"',
    section('NAME', 'llm-node \\- run a language model together with other people, without a server'),
    section('SYNOPSIS', '.B llm-node\n.I verb\n[arguments] [options]'),
    section('DESCRIPTION', paragraphs(description)),
    `.SH VERBS\n${(await Promise.all(verbs.map(verbPart))).join('\n')}`,
    section('EXIT STATUS', list(exitCodes)),
    section('FILES', `With \\-\\-home or LLM_NODE_HOME all of these lie in that folder.\n${list(files)}`),
    section('ENVIRONMENT', list([...environment, ...settings])),
    section(
      'SEE ALSO',
      'The guide, the manual for operators and the list of remedies in the folder docs of the package.',
    ),
  ]
  return `${sections.join('\n')}\n`
}

const description = [
  'Each node holds some layers of a model. Together they answer over circuits that are encrypted hop by hop, and what comes out is byte for byte what one process would compute, also when a node disappears in the middle.',
  'Begin with "llm-node demo", then "llm-node setup". Every verb takes \\-\\-json and prints one JSON object then; every error ends with the next step.',
]

const exitCodes = [
  ['0', 'Done.'],
  ['1', 'A fault of this program.'],
  ['2', 'Wrong input.'],
  ['3', 'This machine or this home.'],
  ['4', 'The files of a model.'],
  ['5', 'The swarm.'],
  ['130', 'Stopped on request.'],
] as const

const files = [
  ['~/.config/llm-node/config.json', 'Settings; "llm-node config" shows and changes them.'],
  ['~/.local/share/llm-node', 'Keys (0600), contacts, and what the node remembers.'],
  ['~/.cache/llm-node/models', 'Layers; they can be fetched again.'],
  ['~/.local/state/llm-node', 'Log, and address and token of the running node (0600).'],
] as const

const settings = environmentSettings.map(([variable, setting]) => {
  return [variable, `The setting ${setting}; comes before config.json, and after a flag.`] as const
})

const environment = [
  ['LLM_NODE_HOME', 'As \\-\\-home.'],
  ['LLM_NODE_KEY_PASSWORD', 'Opens keys that "llm-node id protect" has sealed.'],
  ['HF_ENDPOINT, HF_TOKEN', 'Where repositories of models are fetched from, and with which right.'],
] as const

async function verbPart(verb: string): Promise<string> {
  const help = await createProgram([verb], { width: WIDTH }).getHelp()
  return `.SS ${verb}\n.nf\n${escaped(help.trim())}\n.fi`
}

function section(name: string, text: string): string {
  return `.SH ${name}\n${text}`
}

function paragraphs(texts: readonly string[]): string {
  return texts.join('\n.PP\n')
}

function list(entries: readonly (readonly [name: string, text: string])[]): string {
  return entries.map(([name, text]) => `.TP\n.B ${name}\n${text}`).join('\n')
}

/** No line may begin as a request of roff does, and a hyphen is one that can be copied. */
function escaped(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll(/^([.'])/gm, '\\&$1')
}
