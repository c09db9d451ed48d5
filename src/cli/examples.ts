/** One use of every verb, as its help and the manual page show it: command, and what it is for. */
const examples: Readonly<Record<string, readonly [command: string, use: string]>> = {
  demo: ['$0 demo', 'Three nodes on this machine answer together, and one of them is killed'],
  setup: ['$0 setup --yes', 'Take the layers that the network needs most, without a question'],
  plan: ['$0 plan --model Qwen/Qwen3-8B', 'What this machine could hold of a model, and why'],
  start: ['$0 start --detach', 'Take part, in the background'],
  stop: ['$0 stop', 'Leave in order: running answers finish or move'],
  drain: ['$0 drain', 'Before maintenance: let answers move away, then say that nobody is here any more'],
  pause: ['$0 pause', 'Serve nobody until "$0 resume"'],
  resume: ['$0 resume', 'Serve again'],
  status: ['$0 status --watch', 'What the running node does, again and again'],
  peers: ['$0 peers --why', 'Who is known, and why each is used or not'],
  coverage: ['$0 coverage', 'Which layers are held how often'],
  sessions: ['$0 sessions', 'Answers and circuits at the moment'],
  doctor: ['$0 doctor', 'Find faults, each with its remedy'],
  bench: ['$0 bench', 'Measure this machine'],
  models: ['$0 models ls --all', 'Models that are here, and others that are known to work'],
  config: ['$0 config set engine.threads 2', 'Change a setting'],
  logs: ['$0 logs -f', 'Follow what the node reports'],
  ask: ['$0 ask "Why is the sky blue?" --profile guarded', 'Ask, and let nobody who sees the text know who asks'],
  chat: ['$0 chat', 'A conversation in the terminal'],
  id: ['$0 id', 'The address that others reach this node by'],
  invite: ['$0 invite --petname anna', 'One line for a friend'],
  join: ['$0 join INVITE', 'Take part in the network of that line'],
  network: ['$0 network new home --private', 'A network for those who have an invite'],
  bootstrap: ['$0 bootstrap run', 'A meeting point without layers, for a server'],
  contacts: ['$0 contacts add anna ADDRESS.llm', 'A name of your own for an address'],
  ping: ['$0 ping ADDRESS.llm', 'How a peer is reached, how far it is, what it serves'],
  netcheck: ['$0 netcheck', 'How others can reach this machine'],
  keys: ['$0 keys add phone --requests-per-minute 20', 'A key for the HTTP API'],
  logits: ['$0 logits --model DIR --prompt-ids 1,2,3', 'Compare with another engine'],
  tokenize: ['$0 tokenize --model DIR', 'Ids of the lines on standard input'],
  version: ['$0 version', 'Which version this is'],
  web: ['$0 web', 'Address of the pages of the running node'],
}

/** Throws TypeError for a verb that has none: a test goes through all. */
export function exampleOf(verb: string): [command: string, use: string] {
  const example = examples[verb]
  if (example === undefined) throw new TypeError(`the verb ${verb} has no example`)
  return [...example]
}
