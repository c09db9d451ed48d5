import { useSignal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import type { GenerationBody } from '../lib/bodies.ts'
import type { Answered, Message } from '../lib/chats.ts'
import { formatSpan, formatSpeed } from '../lib/format.ts'
import { generations, nameOf } from '../lib/live.ts'
import { texts } from '../texts.ts'

const words = texts.chat

interface MessageProps {
  readonly message: Message
  readonly isLast: boolean
  readonly isAnswering: boolean
  readonly onAgain: () => void
}

export function MessageView({ message, isLast, isAnswering, onAgain }: MessageProps) {
  if (message.role === 'user') {
    return (
      <article class="message message-user" aria-label={words.you}>
        <p>{message.content}</p>
      </article>
    )
  }
  const isRunning = isLast && isAnswering
  const generation = generations.value.find(({ id }) => id === message.id)
  return (
    <article class="message message-model" data-finish={message.finish ?? ''}>
      <Way message={message} generation={generation} />
      {message.thinking !== '' && (
        <details class="thinking">
          <summary>{words.thinking}</summary>
          <p>{message.thinking}</p>
        </details>
      )}
      {isRunning && generation?.state === 'suspended' && (
        <p class="banner banner-warn" role="status">
          {texts.pipeline.waitsFor(generation.waitsFor.join(', '))}
        </p>
      )}
      {message.content === '' && isRunning && <p class="note">{words.waiting}</p>}
      <Markdown text={message.content} />
      {message.finish === 'stopped' && <p class="note">{words.stopped}</p>}
      {message.finish === 'length' && <p class="note">{words.short}</p>}
      {message.error !== null && (
        <p class="banner banner-bad" role="alert">
          <strong>{message.error.message}</strong> {message.error.hint} <small>({message.error.code})</small>
        </p>
      )}
      {isLast && !isRunning && (
        <button type="button" class="quiet small" onClick={onAgain}>
          {words.again}
        </button>
      )}
    </article>
  )
}

type Rendered = { readonly text: string; readonly html: { __html: string } }

/** Plain until the library for markup is there, which is fetched with the first answer. */
function Markdown({ text }: { text: string }) {
  const rendered = useSignal<Rendered | undefined>(undefined)
  useEffect(() => {
    let current = true
    void import('../lib/markdown.ts').then(({ renderMarkdown }) => {
      if (current) rendered.value = { text, html: renderMarkdown(text) }
    })
    return () => {
      current = false
    }
  }, [text, rendered])
  const now = rendered.value
  if (now === undefined) return <p class="raw">{text}</p>
  return <div class="markdown" dangerouslySetInnerHTML={now.html} />
}

/** Who computes this answer, live, and afterwards what it said of itself. */
function Way({ message, generation }: { message: Answered; generation: GenerationBody | undefined }) {
  const { about } = message
  const hops =
    generation?.hops.map(({ address, span }) => ({ address, layers: formatSpan(span) })) ??
    about?.hops.map(({ address, layers }) => ({ address, layers: layers.replace('-', '–') })) ??
    []
  if (hops.length === 0) return null
  const exact = about?.exact ?? generation?.exact ?? null
  const profile = about?.profile ?? generation?.profile ?? null
  const failovers = about?.failovers ?? generation?.failovers ?? 0
  const last = generation?.lastFailover ?? null
  const speed = generation?.tokensPerSecond ?? null
  return (
    <>
      <p class="way">
        <span class="hidden">{words.route}: </span>
        {hops.map(({ address, layers }) => (
          <span key={`${layers} ${address}`} class="way-hop" title={address ?? ''}>
            {nameOf(address)} <small>{layers}</small>
          </span>
        ))}
        {exact !== null && (
          <span class="badge" title={exact ? texts.pipeline.exactAbout : texts.pipeline.inexactAbout}>
            {exact ? texts.pipeline.exact : texts.pipeline.inexact}
          </span>
        )}
        {profile !== null && (
          <span class="badge" title={texts.profiles[profile]}>
            {profile}
          </span>
        )}
        {speed !== null && <small>{formatSpeed(speed)}</small>}
      </p>
      {failovers > 0 && (
        <p class="banner banner-warn" role="status">
          {last === null
            ? texts.pipeline.failovers(failovers)
            : texts.pipeline.failover(last.spans.map(formatSpan).join(', '), last.reason)}
        </p>
      )}
    </>
  )
}
