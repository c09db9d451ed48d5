import { useSignal } from '@preact/signals'
import { memo } from 'preact/compat'
import type { CoverageModel } from '../lib/bodies.ts'
import { formatSpan, hueOf } from '../lib/format.ts'
import { nameOf } from '../lib/live.ts'
import { texts } from '../texts.ts'

type Holder = CoverageModel['holders'][number]

/** So many rows at first: more than anybody reads, few enough to draw at once. */
const ROWS = 60

/** One row per holder, one column per layer; above them how often each layer is held, gaps in red. */
export function LayerMap({ model, compact = false }: { model: CoverageModel; compact?: boolean }) {
  const all = useSignal(false)
  const nLayers = model.nLayers ?? model.replicas.length
  const sorted = [...model.holders].sort((a, b) => a.span.start - b.span.start || a.span.end - b.span.end)
  const most = compact ? 8 : ROWS
  const shown = all.value ? sorted : sorted.slice(0, most)
  return (
    <div class="map" style={{ '--layers': nLayers }}>
      <Ruler nLayers={nLayers} />
      <Replicas replicas={model.replicas} />
      <ul class="map-rows">
        {shown.map((holder) => (
          <Row
            key={`${holder.address} ${holder.span.start}`}
            holder={holder}
            nLayers={nLayers}
            name={holder.self ? texts.thisNode : nameOf(holder.address)}
          />
        ))}
      </ul>
      {sorted.length > shown.length && (
        <button type="button" class="quiet" onClick={() => (all.value = true)}>
          {texts.coverage.more(sorted.length - shown.length)}
        </button>
      )}
    </div>
  )
}

/** Numbers of some layers, as many as fit. */
function Ruler({ nLayers }: { nLayers: number }) {
  const every = [1, 2, 4, 5, 10, 20, 50].find((step) => nLayers / step <= 14) ?? 100
  const marks = Array.from({ length: Math.ceil(nLayers / every) }, (_, index) => index * every)
  return (
    <div class="map-line map-ruler" aria-hidden="true">
      <span class="map-name" />
      <span class="map-track">
        {marks.map((layer) => (
          <span key={layer} class="map-mark" style={{ left: `${((layer + 0.5) / nLayers) * 100}%` }}>
            {layer}
          </span>
        ))}
      </span>
    </div>
  )
}

function Replicas({ replicas }: { replicas: readonly number[] }) {
  return (
    <div class="map-line map-replicas">
      <span class="map-name">{texts.coverage.replicas}</span>
      <span class="map-track map-cells" role="img" aria-label={replicasText(replicas)}>
        {replicas.map((n, layer) => (
          <span key={layer} class={`cell depth-${Math.min(3, n)}`} title={texts.coverage.replica(layer, n)}>
            {replicas.length <= 40 ? n : ''}
          </span>
        ))}
      </span>
    </div>
  )
}

function replicasText(replicas: readonly number[]): string {
  return replicas.map((n, layer) => texts.coverage.replica(layer, n)).join('; ')
}

interface RowProps {
  readonly holder: Holder
  readonly nLayers: number
  readonly name: string
}

const Row = memo(function Row({ holder, nLayers, name }: RowProps) {
  const { address, span, state, self } = holder
  const label = texts.coverage.holder(name, formatSpan(span), texts.states[state] ?? state)
  const place = { left: `${(span.start / nLayers) * 100}%`, width: `${((span.end - span.start) / nLayers) * 100}%` }
  return (
    <li class="map-line" title={address}>
      <span class="map-name">{name}</span>
      <span class="map-track" role="img" aria-label={label}>
        <span class={`bar bar-${state}${self ? ' bar-self' : ''}`} style={{ ...place, '--hue': hueOf(address) }}>
          <span>{formatSpan(span)}</span>
        </span>
      </span>
    </li>
  )
}, isSame)

/** Each event brings new objects; most rows say what they said. */
function isSame(one: RowProps, other: RowProps): boolean {
  const [a, b] = [one.holder, other.holder]
  const sameSpan = a.span.start === b.span.start && a.span.end === b.span.end
  return (
    sameSpan &&
    a.state === b.state &&
    a.address === b.address &&
    one.nLayers === other.nLayers &&
    one.name === other.name
  )
}
