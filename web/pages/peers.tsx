import { useSignal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import { Problem } from '../components/problem.tsx'
import { getJson, postJson } from '../lib/api.ts'
import type { ContactAddedBody, PeerBody, PingBody, UsageBody } from '../lib/bodies.ts'
import { formatMs, formatSpan, shortAddress } from '../lib/format.ts'
import { coverage, loadPetnames, nameOf, peers, petnames } from '../lib/live.ts'
import { texts } from '../texts.ts'

const words = texts.peers
/** So many at first, and with each wish for more. */
const SHOWN = 100

/** Everybody this node knows. */
export function Peers() {
  const filter = useSignal('')
  const shown = useSignal(SHOWN)
  const error = useSignal<unknown>(undefined)
  const uses = useSignal<ReadonlyMap<string, string>>(new Map())
  useEffect(() => {
    getJson<UsageBody>('/api/usage').then(
      ({ models }) => {
        uses.value = new Map(
          models.flatMap((model) => model.peers.map((peer) => [peer.address, useText(peer)] as const)),
        )
      },
      () => {},
    )
  }, [uses])
  const wanted = filter.value.trim().toLowerCase()
  const list = [...peers.value.values()]
    .filter(({ address }) => `${address} ${nameOf(address)}`.toLowerCase().includes(wanted))
    .sort((a, b) => Number(b.connected) - Number(a.connected) || a.address.localeCompare(b.address))
  return (
    <>
      <h1>{words.title}</h1>
      <p class="about">{words.about}</p>
      <Problem error={error.value} />
      {peers.value.size > 10 && (
        <input
          type="search"
          aria-label={words.filter}
          placeholder={words.filter}
          value={filter.value}
          onInput={(event) => {
            filter.value = event.currentTarget.value
          }}
        />
      )}
      {peers.value.size === 0 ? (
        <p class="card">{words.none}</p>
      ) : (
        <ul class="peers">
          {list.slice(0, shown.value).map((peer) => (
            <Peer
              key={peer.address}
              peer={peer}
              use={uses.value.get(peer.address)}
              onError={(thrown) => (error.value = thrown)}
            />
          ))}
        </ul>
      )}
      {list.length > shown.value && (
        <button type="button" class="quiet" onClick={() => (shown.value += SHOWN)}>
          {texts.coverage.more(Math.min(SHOWN, list.length - shown.value))}
        </button>
      )}
    </>
  )
}

function servingText({ serving }: PeerBody): string {
  if (serving.length === 0) return words.noLayers
  return serving
    .map(({ modelId, span }) => {
      const model = coverage.value.find((each) => each.modelId === modelId)
      return `${formatSpan(span)} (${model?.name ?? modelId.slice(0, 8)})`
    })
    .join(', ')
}

interface PeerProps {
  readonly peer: PeerBody
  /** Whether its answers lead through this node, and why not. */
  readonly use: string | undefined
  readonly onError: (error: unknown) => void
}

function Peer({ peer, use, onError }: PeerProps) {
  const { address, rttMs, connected, state, version } = peer
  const pinged = useSignal<string | undefined>(undefined)
  const naming = useSignal(false)
  const ping = () => {
    pinged.value = '…'
    postJson<PingBody>('/api/ping', { target: address }).then(
      ({ rttMs: trips, path }) => {
        pinged.value = words.pinged(formatMs(Math.min(...trips)), path === 'relay' ? words.relay : words.direct)
      },
      (thrown) => {
        pinged.value = undefined
        onError(thrown)
      },
    )
  }
  return (
    <li class="card peer">
      <div class="peer-name">
        <strong>{nameOf(address)}</strong>
        <code title={address}>{address}</code>
      </div>
      <dl class="peer-facts">
        <Fact name={words.columns.layers} text={servingText(peer)} />
        <Fact name={words.columns.rtt} text={formatMs(rttMs)} />
        <Fact name={words.columns.path} text={pathText(peer)} />
        <Fact name={words.columns.state} text={texts.states[state] ?? state} />
        <Fact name={words.columns.version} text={version} />
        {use !== undefined && <Fact name={words.columns.uses} text={use} />}
      </dl>
      <div class="peer-actions">
        {naming.value ? (
          <NameForm address={address} onError={onError} onDone={() => (naming.value = false)} />
        ) : (
          <>
            <button type="button" class="quiet small" onClick={() => (naming.value = true)}>
              {words.rename}
            </button>
            <button type="button" class="quiet small" disabled={!connected && pinged.value === '…'} onClick={ping}>
              {pinged.value ?? words.ping}
            </button>
          </>
        )}
      </div>
    </li>
  )
}

function useText({ used, reason }: UsageBody['models'][number]['peers'][number]): string {
  return used ? words.used : reason
}

function pathText({ connected, relayed, quality }: PeerBody): string {
  if (!connected) return words.notConnected
  const way = relayed ? words.relay : words.direct
  return quality === null ? way : `${way}, ${words.qualities[quality]}`
}

function Fact({ name, text }: { name: string; text: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{text}</dd>
    </div>
  )
}

function NameForm(props: { address: string; onError: (error: unknown) => void; onDone: () => void }) {
  const { address, onError, onDone } = props
  const known = petnames.value.get(address)
  const name = useSignal(known ?? '')
  const save = async (event: Event) => {
    event.preventDefault()
    try {
      if (known !== undefined) await postJson('/api/contacts/remove', { petname: known })
      const petname = name.value.trim()
      if (petname !== '') await postJson<ContactAddedBody>('/api/contacts', { petname, address })
      onError(undefined)
      onDone()
    } catch (error) {
      onError(error)
    }
    await loadPetnames()
  }
  return (
    <form class="inline" onSubmit={save}>
      <input
        aria-label={words.renameFor(shortAddress(address))}
        value={name.value}
        maxLength={40}
        onInput={(event) => {
          name.value = event.currentTarget.value
        }}
      />
      <button type="submit" class="small">
        {words.save}
      </button>
      <button type="button" class="quiet small" onClick={onDone}>
        {words.cancel}
      </button>
    </form>
  )
}
