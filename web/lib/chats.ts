import { signal } from '@preact/signals'
import type { ChatChunk } from './bodies.ts'
import { streamChat } from './chat-stream.ts'

export type Where = 'auto' | 'swarm' | 'local'

export interface Answered {
  readonly role: 'assistant'
  readonly content: string
  readonly thinking: string
  /** Id of the generation, to find its way by. */
  readonly id: string | null
  readonly finish: 'stop' | 'length' | 'stopped' | 'failed' | null
  readonly error: { readonly message: string; readonly hint: string | null; readonly code: string } | null
  /** What the answer says of itself at its end. */
  readonly about: ChatChunk['llm_node'] | null
}
export interface Asked {
  readonly role: 'user'
  readonly content: string
}
export type Message = Asked | Answered

export interface Chat {
  readonly id: string
  readonly title: string
  readonly model: string
  readonly where: Where
  /** Empty: the node's own. */
  readonly profile: string
  readonly messages: readonly Message[]
}

const KEY = 'llm-node-chats'
const KEPT = 50

/** The chats of this browser tab, newest first. */
export const chats = signal<readonly Chat[]>(restore())
const stopping = new Map<string, AbortController>()
/** Ids of the chats whose answer is under way. */
export const answering = signal<ReadonlySet<string>>(new Set())

export function createChat(model: string): Chat {
  const from = chats.value[0]
  const id = crypto.randomUUID()
  const chat: Chat = { id, title: '', model, where: from?.where ?? 'auto', profile: from?.profile ?? '', messages: [] }
  chats.value = [chat, ...chats.value].slice(0, KEPT)
  save()
  return chat
}

export function changeChat(id: string, change: Partial<Chat>): void {
  chats.value = chats.value.map((chat) => (chat.id === id ? { ...chat, ...change } : chat))
  saveSoon()
}

export function removeChat(id: string): void {
  stopAnswer(id)
  chats.value = chats.value.filter((chat) => chat.id !== id)
  save()
}

export function stopAnswer(id: string): void {
  stopping.get(id)?.abort()
}

export async function say(chat: Chat, content: string): Promise<void> {
  const title = chat.title === '' ? content.slice(0, 48) : chat.title
  changeChat(chat.id, { title, messages: [...chat.messages, { role: 'user', content }] })
  await answer(chat.id)
}

/** The last answer once more. */
export async function sayAgain(chat: Chat): Promise<void> {
  const last = chat.messages.findLastIndex(({ role }) => role === 'user')
  changeChat(chat.id, { messages: chat.messages.slice(0, last + 1) })
  await answer(chat.id)
}

const fresh: Answered = {
  role: 'assistant',
  content: '',
  thinking: '',
  id: null,
  finish: null,
  error: null,
  about: null,
}

async function answer(id: string): Promise<void> {
  const chat = chats.value.find((each) => each.id === id)
  if (chat === undefined) return
  const gone = new AbortController()
  stopping.set(id, gone)
  answering.value = new Set([...answering.value, id])
  const messages = chat.messages.map(({ role, content }) => ({ role, content }))
  const shown = createShown(id, chat.messages)
  try {
    const model = chat.where === 'auto' ? chat.model : `${chat.model}@${chat.where}`
    const privacy = chat.profile === '' ? {} : { llm_node: { profile: chat.profile } }
    for await (const chunk of streamChat({ model, messages, ...privacy }, gone.signal)) shown.add(chunk)
    shown.end({})
  } catch (thrown) {
    const { message, hint = null, code = '' } = thrown as { message: string; hint?: string | null; code?: string }
    shown.end(gone.signal.aborted ? { finish: 'stopped' } : { finish: 'failed', error: { message, hint, code } })
  }
  stopping.delete(id)
  answering.value = new Set([...answering.value].filter((each) => each !== id))
  save()
}

/** Collects chunks and shows them once a frame: a fast answer must not make the page slow. */
function createShown(id: string, before: readonly Message[]) {
  let current = fresh
  let timer: ReturnType<typeof setTimeout> | undefined
  const show = () => {
    timer = undefined
    changeChat(id, { messages: [...before, current] })
  }
  show()
  return {
    add({ id: generation, choices, llm_node }: ChatChunk) {
      const [choice] = choices
      current = {
        ...current,
        id: generation,
        content: current.content + (choice?.delta.content ?? ''),
        thinking: current.thinking + (choice?.delta.reasoning_content ?? ''),
        finish: choice?.finish_reason ?? current.finish,
        about: llm_node ?? current.about,
      }
      timer ??= setTimeout(show, 40)
    },
    end(change: Partial<Answered>) {
      clearTimeout(timer)
      current = { ...current, ...change }
      show()
    },
  }
}

function restore(): readonly Chat[] {
  try {
    const found: Chat[] = JSON.parse(sessionStorage.getItem(KEY) ?? '[]')
    return found.map((chat) => ({ ...chat, messages: chat.messages.map(interrupted) }))
  } catch {
    return []
  }
}

/** An answer that was under way when the page was reloaded. */
function interrupted(message: Message): Message {
  return message.role === 'assistant' && message.finish === null ? { ...message, finish: 'stopped' } : message
}

let saving: ReturnType<typeof setTimeout> | undefined
function saveSoon(): void {
  saving ??= setTimeout(save, 500)
}

function save(): void {
  clearTimeout(saving)
  saving = undefined
  try {
    sessionStorage.setItem(KEY, JSON.stringify(chats.value))
  } catch {
    // Full: the chats go on, they only do not survive a reload.
  }
}
