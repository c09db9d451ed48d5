import type { FunctionComponent } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import { connection } from '../lib/follow.ts'
import { startLive, status } from '../lib/live.ts'
import { route } from '../lib/router.ts'
import { Chat } from '../pages/chat.tsx'
import { Coverage } from '../pages/coverage.tsx'
import { Models } from '../pages/models.tsx'
import { Overview } from '../pages/overview.tsx'
import { Peers } from '../pages/peers.tsx'
import { Pipeline } from '../pages/pipeline.tsx'
import { Settings } from '../pages/settings.tsx'
import { type PageName, texts } from '../texts.ts'
import { DemoPanel } from './demo-panel.tsx'
import { Icon } from './icon.tsx'

const pages: Readonly<Record<PageName, FunctionComponent>> = {
  overview: Overview,
  chat: Chat,
  coverage: Coverage,
  pipeline: Pipeline,
  peers: Peers,
  models: Models,
  settings: Settings,
}
const names = Object.keys(pages) as PageName[]

let started = false

/** Navigation, the state of the connection, and one page. */
export function Shell({ isDemo }: { isDemo: boolean }) {
  useEffect(() => {
    if (!started) startLive({ isDemo })
    started = true
  }, [isDemo])
  const name = names.find((each) => each === route.value.split('/')[0]) ?? 'overview'
  const Page = pages[name]
  const main = useRef<HTMLElement>(null)
  const before = useRef(name)
  useEffect(() => {
    document.title = `${texts.nav[name]} – ${texts.name}`
    // Who reads with ears hears that the page is another one.
    if (before.current !== name) main.current?.focus()
    before.current = name
  }, [name])
  return (
    <div class="shell">
      <a class="skip" href={`#/${name}`} onClick={() => main.current?.focus()}>
        {texts.skip}
      </a>
      <Navigation current={name} />
      <main ref={main} tabIndex={-1} class={`page page-${name}`}>
        {connection.value === 'lost' && (
          <p class="banner banner-warn" role="status">
            {texts.connection.lost}
          </p>
        )}
        {isDemo && (name === 'overview' || name === 'pipeline') && <DemoPanel />}
        {status.value === null ? <p class="waiting">{texts.connection.connecting}</p> : <Page />}
      </main>
    </div>
  )
}

function Navigation({ current }: { current: PageName }) {
  return (
    <nav class="nav" aria-label={texts.nav.label}>
      <a class="brand" href="#/" aria-label={texts.name}>
        <img src="/icon.svg" alt="" width="28" height="28" />
        <span>{texts.name}</span>
      </a>
      <ul>
        {names.map((name) => (
          <li key={name}>
            <a href={`#/${name}`} aria-current={name === current ? 'page' : undefined}>
              <Icon name={name} />
              <span>{texts.nav[name]}</span>
            </a>
          </li>
        ))}
      </ul>
      <p class={`connection connection-${connection.value}`} role="status">
        <span class="dot" />
        <span>{connection.value === 'live' ? texts.connection.live : '…'}</span>
      </p>
    </nav>
  )
}
