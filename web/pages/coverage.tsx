import { LayerMap } from '../components/layer-map.tsx'
import type { CoverageModel } from '../lib/bodies.ts'
import { formatSpan } from '../lib/format.ts'
import { coverage } from '../lib/live.ts'
import { texts } from '../texts.ts'

const words = texts.coverage

/** Who holds which layers of which model. */
export function Coverage() {
  return (
    <>
      <h1>{words.title}</h1>
      <p class="about">{words.about}</p>
      <p class="legend">
        <span class="cell depth-0" /> {words.legend.gap}
        <span class="cell depth-1" /> {words.legend.once}
        <span class="cell depth-3" /> {words.legend.more}
      </p>
      {coverage.value.length === 0 && <p>{words.none}</p>}
      {coverage.value.map((model) => (
        <Model key={`${model.modelId} ${model.recipe}`} model={model} />
      ))}
    </>
  )
}

function Model({ model }: { model: CoverageModel }) {
  const least = Math.min(...model.replicas)
  return (
    <section class="card card-wide">
      <header class="model-head">
        <h2>{model.name ?? model.modelId.slice(0, 12)}</h2>
        <span class="badge">{model.recipe}</span>
        <span class={model.complete ? 'badge badge-done' : 'badge badge-failed'}>
          {model.complete ? words.complete : words.incomplete(model.gaps.map(formatSpan).join(', '))}
        </span>
      </header>
      <LayerMap model={model} />
      {model.complete && (
        <p class="note">
          {words.weakest(least)} {least > 1 ? words.safe : words.fragile}
        </p>
      )}
    </section>
  )
}
