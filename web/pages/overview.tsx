import { useSignal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import { Card } from '../components/card.tsx'
import { CopyField } from '../components/copy-field.tsx'
import { GenerationView } from '../components/generation-view.tsx'
import { LayerMap } from '../components/layer-map.tsx'
import { Sparkline } from '../components/sparkline.tsx'
import { getJson } from '../lib/api.ts'
import type { CoverageModel, InviteBody, StatusBody } from '../lib/bodies.ts'
import { formatBytes, formatDuration, formatMs, formatSpan, formatSpeed } from '../lib/format.ts'
import { coverage, generations, running, sessions, speeds, status } from '../lib/live.ts'
import { texts } from '../texts.ts'

const words = texts.overview

/** The swarm at a glance: who runs what together, and whether all is well. */
export function Overview() {
  const now = status.value
  if (now === null) return null
  const [model] = coverage.value
  const [last] = generations.value
  return (
    <>
      <Headline model={model} canAsk={now.models.some(({ ends }) => ends)} />
      {last !== undefined && (
        <Card title={running.value.length > 0 ? words.routeNow : words.route} wide>
          <GenerationView generation={last} />
        </Card>
      )}
      <div class="cards">
        <Health lines={now.health} />
        <Mine status={now} />
        <Work status={now} />
        <Speed />
        <Invite />
        <Privacy />
      </div>
    </>
  )
}

function Headline({ model, canAsk }: { model: CoverageModel | undefined; canAsk: boolean }) {
  if (model === undefined) return <h1>{words.nothing}</h1>
  const name = model.name ?? model.modelId.slice(0, 12)
  const nodes = new Set(model.holders.map(({ address }) => address)).size
  const gaps = model.gaps.map(formatSpan).join(', ')
  return (
    <section class="hero">
      <h1>{headline(model, nodes, name)}</h1>
      <p class={model.complete ? 'lead lead-good' : 'lead lead-bad'} role="status">
        {model.complete ? words.complete(model.replicas.length) : words.gaps(gaps)}
      </p>
      <p class="how">{words.how}</p>
      <LayerMap model={model} compact />
      <p class="actions">
        {canAsk && (
          <a class="button" href="#/chat">
            {words.ask}
          </a>
        )}
        <a class="button quiet" href="#/coverage">
          {words.map}
        </a>
      </p>
    </section>
  )
}

function headline({ holders, complete }: CoverageModel, nodes: number, name: string): string {
  if (nodes === 1 && holders[0]?.self === true) return words.alone(name)
  return complete ? words.headline(nodes, name) : words.parts(nodes, name)
}

function Health({ lines }: { lines: StatusBody['health'] }) {
  return (
    <Card title={words.health}>
      <ul class="health">
        {lines.map(({ ok, text, next }) => (
          <li key={text} class={ok ? 'good' : 'bad'}>
            <span>{text}</span>
            {next !== null && <small>{next}</small>}
          </li>
        ))}
      </ul>
    </Card>
  )
}

function Mine({ status }: { status: StatusBody }) {
  const { address, models, version, uptimeS, network, reachability, paused, moving } = status
  const held = models.map(({ name, layers, nLayers, ends }) =>
    layers === null ? (ends ? `${name}: ${words.endsOnly}` : name) : words.layers(formatSpan(layers), nLayers, name),
  )
  return (
    <Card title={words.mine}>
      <dl>
        <dt>{words.holds}</dt>
        <dd>{held.length === 0 ? words.nothingHeld : held.map((text) => <div key={text}>{text}</div>)}</dd>
        <dt>{words.address}</dt>
        <dd>
          <CopyField text={address} label={words.address} />
        </dd>
        <dt>{words.reach}</dt>
        <dd title={reachability.reason}>{words.reaches[reachability.word]}</dd>
        <dt>{words.version}</dt>
        <dd>
          {version}, {network}, {words.uptime(formatDuration(uptimeS))}
        </dd>
      </dl>
      {paused !== null && <p class="banner banner-warn">{words.paused(paused)}</p>}
      {moving !== null && <p class="note">{words.moving(formatSpan(moving.span))}</p>}
    </Card>
  )
}

function Work({ status: { relay, decode, rssBytes } }: { status: StatusBody }) {
  const held = sessions.value.length
  return (
    <Card title={words.users}>
      <p class="figure">{held === 0 ? words.nobody : words.sessions(held)}</p>
      <dl>
        {decode.meanMs !== null && (
          <>
            <dt>{texts.pipeline.perToken}</dt>
            <dd>{words.step(formatMs(decode.meanMs))}</dd>
          </>
        )}
        <dt>{words.forwarding}</dt>
        <dd>{words.forwards(relay.circuits)}</dd>
        <dt>{words.memory}</dt>
        <dd>{formatBytes(rssBytes)}</dd>
      </dl>
    </Card>
  )
}

function Speed() {
  const now = running.value
  const sum = now.reduce((total, { tokensPerSecond }) => total + (tokensPerSecond ?? 0), 0)
  return (
    <Card title={words.speed}>
      <p class="figure">{now.length === 0 ? words.noAnswer : words.underWay(now.length)}</p>
      <p>{sum > 0 && formatSpeed(sum)}</p>
      {speeds.value.length > 1 && <Sparkline values={speeds.value} label={`${words.speed}: ${formatSpeed(sum)}`} />}
    </Card>
  )
}

function Invite() {
  const invite = useSignal<InviteBody | null>(null)
  useEffect(() => {
    getJson<InviteBody>('/api/invite').then(
      (found) => {
        invite.value = found
      },
      () => {},
    )
  }, [invite])
  if (invite.value === null) return null
  return (
    <Card title={words.invite}>
      <p>{words.inviteAbout}</p>
      <CopyField text={`llm-node join ${invite.value.line}`} label={words.invite} />
      {invite.value.private && <p class="note">{words.invitePrivate}</p>}
    </Card>
  )
}

function Privacy() {
  return (
    <Card title={words.privacy}>
      <ul class="plain">
        {texts.privacy.map((line) => (
          <li key={line}>{line}</li>
        ))}
      </ul>
    </Card>
  )
}
