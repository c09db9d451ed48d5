import { useSignal } from '@preact/signals'
import { useEffect, useLayoutEffect, useRef } from 'preact/hooks'
import type { ModelObject } from '../lib/bodies.ts'
import { answering, type Chat, changeChat, say, sayAgain, stopAnswer, type Where } from '../lib/chats.ts'
import { texts } from '../texts.ts'
import { MessageView } from './message-view.tsx'

const words = texts.chat

interface ChatViewProps {
  readonly chat: Chat
  readonly models: readonly ModelObject[]
}

/** One chat: how it runs, what was said, and where to say more. */
export function ChatView({ chat, models }: ChatViewProps) {
  const isAnswering = answering.value.has(chat.id)
  const end = useRef<HTMLDivElement>(null)
  const follows = useRef(true)
  const length = chat.messages.reduce((sum, { content }) => sum + content.length, chat.messages.length)
  useEffect(() => {
    const note = () => {
      follows.current = innerHeight + scrollY > document.body.scrollHeight - 120
    }
    addEventListener('scroll', note, { passive: true })
    return () => removeEventListener('scroll', note)
  }, [])
  // Stays at the end of a growing answer, unless somebody reads further up.
  useLayoutEffect(() => {
    if (length > 0 && follows.current) end.current?.scrollIntoView({ block: 'end' })
  }, [length])
  return (
    <section class="chat-main" aria-label={chat.title || words.untitled}>
      <ChatOptions chat={chat} models={models} />
      <div class="messages" role="log" aria-busy={isAnswering}>
        {chat.messages.length === 0 && <Empty chat={chat} />}
        {chat.messages.map((message, index) => (
          <MessageView
            key={index}
            message={message}
            isLast={index === chat.messages.length - 1}
            isAnswering={isAnswering}
            onAgain={() => void sayAgain(chat)}
          />
        ))}
      </div>
      <Composer chat={chat} isAnswering={isAnswering} />
      <div ref={end} />
    </section>
  )
}

function ChatOptions({ chat, models }: ChatViewProps) {
  return (
    <header class="chat-options">
      <label class="chat-title">
        <span class="hidden">{words.renameField}</span>
        <input
          value={chat.title}
          placeholder={words.untitled}
          maxLength={80}
          onInput={(event) => changeChat(chat.id, { title: event.currentTarget.value })}
        />
      </label>
      <Choice label={words.model} value={chat.model} onChange={(model) => changeChat(chat.id, { model })}>
        {models.map(({ id }) => [id, id])}
      </Choice>
      <Choice
        label={words.where}
        value={chat.where}
        onChange={(where) => changeChat(chat.id, { where: where as Where })}
      >
        {Object.entries(words.wheres)}
      </Choice>
      <Choice label={words.profile} value={chat.profile} onChange={(profile) => changeChat(chat.id, { profile })}>
        {[['', texts.profiles.auto], ...Object.entries(texts.profiles).filter(([name]) => name !== 'auto')]}
      </Choice>
    </header>
  )
}

function Choice(props: {
  label: string
  value: string
  onChange: (value: string) => void
  children: readonly (readonly [string, string] | string[])[]
}) {
  return (
    <label class="choice">
      <span>{props.label}</span>
      <select value={props.value} onChange={(event) => props.onChange(event.currentTarget.value)}>
        {props.children.map(([value = '', text]) => (
          <option key={value} value={value}>
            {text}
          </option>
        ))}
      </select>
    </label>
  )
}

function Empty({ chat }: { chat: Chat }) {
  return (
    <div class="empty">
      <h2>{words.empty}</h2>
      <p>{words.emptyAbout}</p>
      <p class="actions">
        {words.examples.map((example) => (
          <button key={example} type="button" class="quiet" onClick={() => void say(chat, example)}>
            {example}
          </button>
        ))}
      </p>
    </div>
  )
}

function Composer({ chat, isAnswering }: { chat: Chat; isAnswering: boolean }) {
  const text = useSignal('')
  const field = useRef<HTMLTextAreaElement>(null)
  useEffect(() => field.current?.focus({ preventScroll: true }), [])
  const send = () => {
    const content = text.value.trim()
    if (content === '' || isAnswering) return
    text.value = ''
    void say(chat, content)
  }
  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault()
        send()
      }}
    >
      <textarea
        ref={field}
        rows={Math.min(8, text.value.split('\n').length)}
        aria-label={words.message}
        placeholder={words.placeholder}
        value={text.value}
        onInput={(event) => {
          text.value = event.currentTarget.value
        }}
        onKeyDown={(event) => {
          if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return
          event.preventDefault()
          send()
        }}
      />
      {isAnswering ? (
        <button type="button" class="danger" onClick={() => stopAnswer(chat.id)}>
          {words.stop}
        </button>
      ) : (
        <button type="submit">{words.send}</button>
      )}
    </form>
  )
}
