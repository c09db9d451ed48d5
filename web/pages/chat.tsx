import { signal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import { ChatView } from '../components/chat-view.tsx'
import { getJson } from '../lib/api.ts'
import type { ModelObject } from '../lib/bodies.ts'
import { answering, type Chat as ChatRecord, chats, createChat, removeChat } from '../lib/chats.ts'
import { go, route } from '../lib/router.ts'
import { texts } from '../texts.ts'

const words = texts.chat
const models = signal<readonly ModelObject[] | null>(null)

/** Several chats side by side; answers go on while another one is looked at. */
export function Chat() {
  useEffect(() => {
    getJson<{ data: ModelObject[] }>('/v1/models').then(
      ({ data }) => {
        models.value = data
      },
      () => {},
    )
  }, [])
  const known = models.value
  if (known === null) return <p class="waiting">{texts.loading}</p>
  const [first] = known
  if (first === undefined) return <p class="banner banner-warn">{words.noModel}</p>
  const id = route.value.split('/')[1]
  const chat = chats.value.find((each) => each.id === id) ?? chats.value[0] ?? createChat(first.id)
  const start = () => go(`chat/${createChat(chat.model).id}`)
  return (
    <div class="chat">
      <h1 class="hidden">{words.title}</h1>
      <nav class="chat-list" aria-label={words.chats}>
        <button type="button" onClick={start}>
          {words.fresh}
        </button>
        <ul>
          {chats.value.map((each) => (
            <Entry key={each.id} chat={each} isCurrent={each.id === chat.id} />
          ))}
        </ul>
      </nav>
      <ChatView key={chat.id} chat={chat} models={known} />
    </div>
  )
}

function Entry({ chat, isCurrent }: { chat: ChatRecord; isCurrent: boolean }) {
  const title = chat.title || words.untitled
  return (
    <li>
      <a href={`#/chat/${chat.id}`} aria-current={isCurrent ? 'true' : undefined}>
        {answering.value.has(chat.id) && <span class="dot dot-busy" />}
        {title}
      </a>
      <button
        type="button"
        class="quiet small"
        aria-label={`${words.remove}: ${title}`}
        onClick={() => removeChat(chat.id)}
      >
        ×
      </button>
    </li>
  )
}
