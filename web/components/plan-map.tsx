import type { PlanBody } from '../lib/bodies.ts'
import { texts } from '../texts.ts'

/** What others hold, layer by layer, and below it what this node would take: "4-7". */
export function PlanMap({ plan, layers }: { plan: PlanBody; layers: string }) {
  const span = parseLayers(layers, plan.nLayers)
  const width = (n: number) => `${(n / plan.nLayers) * 100}%`
  return (
    <div
      class="map plan-map"
      role="img"
      aria-label={`${texts.setup.layers.mapLabel}: ${layers}`}
      style={{ '--layers': plan.nLayers }}
    >
      <span class="map-track map-cells">
        {plan.replicas.map((n, layer) => (
          <span key={layer} class={`cell depth-${Math.min(3, n)}`} title={texts.coverage.replica(layer, n)}>
            {plan.nLayers <= 40 ? n : ''}
          </span>
        ))}
      </span>
      <span class="map-track">
        {span !== null && (
          <span class="bar bar-self" style={{ left: width(span.start), width: width(span.end - span.start) }}>
            <span>{layers.replace('-', '–')}</span>
          </span>
        )}
      </span>
    </div>
  )
}

function parseLayers(layers: string, nLayers: number): { start: number; end: number } | null {
  if (layers === 'all') return { start: 0, end: nLayers }
  const [, first, last = first] = /^(\d+)(?:-(\d+))?$/.exec(layers) ?? []
  return first === undefined ? null : { start: Number(first), end: Number(last) + 1 }
}
