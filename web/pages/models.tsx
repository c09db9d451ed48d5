import { useSignal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import { Card } from '../components/card.tsx'
import { CopyField } from '../components/copy-field.tsx'
import { PlanMap } from '../components/plan-map.tsx'
import { Problem } from '../components/problem.tsx'
import { getJson, postJson } from '../lib/api.ts'
import type { ModelsBody, PlanBody } from '../lib/bodies.ts'
import { formatBytes } from '../lib/format.ts'
import { texts } from '../texts.ts'

const words = texts.models

/** What is held, and what could be. */
export function Models() {
  const models = useSignal<ModelsBody | null>(null)
  const error = useSignal<unknown>(undefined)
  useEffect(() => {
    getJson<ModelsBody>('/api/models').then(
      (found) => {
        models.value = found
      },
      (thrown) => {
        error.value = thrown
      },
    )
  }, [models, error])
  const found = models.value
  return (
    <>
      <h1>{words.title}</h1>
      <Problem error={error.value} />
      {found === null ? (
        error.value === undefined && <p class="waiting">{texts.loading}</p>
      ) : (
        <>
          <Held models={found.held} />
          <section>
            <h2>{words.known}</h2>
            <p class="about">{words.knownAbout}</p>
            <ul class="catalogue">
              {found.catalogue.map((model) => (
                <Known key={model.repository} model={model} />
              ))}
            </ul>
          </section>
        </>
      )}
    </>
  )
}

function Held({ models }: { models: ModelsBody['held'] }) {
  return (
    <Card title={words.held} wide>
      {models.length === 0 && <p>{words.none}</p>}
      <ul class="plain">
        {models.map(({ name, recipe, layers, nLayers, ends, bytes, problem, source }) => (
          <li key={`${name} ${recipe}`} class="held">
            <strong title={source}>{name}</strong> <span class="badge">{recipe}</span>{' '}
            {layers !== null && <span>{words.holds(layers.replace('-', '–'), nLayers ?? 0)}</span>}{' '}
            {ends && <span class="badge">{words.ends}</span>} {bytes !== null && <small>{formatBytes(bytes)}</small>}
            {problem !== null && (
              <span class="badge badge-failed" title={problem}>
                {words.damaged}
              </span>
            )}
          </li>
        ))}
      </ul>
    </Card>
  )
}

function Known({ model }: { model: ModelsBody['catalogue'][number] }) {
  const plan = useSignal<PlanBody | 'asking' | null>(null)
  const error = useSignal<unknown>(undefined)
  const ask = () => {
    plan.value = 'asking'
    postJson<PlanBody>('/api/plan', { model: model.repository }).then(
      (found) => {
        plan.value = found
        error.value = undefined
      },
      (thrown) => {
        plan.value = null
        error.value = thrown
      },
    )
  }
  return (
    <li class="card">
      <h3>{model.repository}</h3>
      <p class="note">
        {words.layers(model.nLayers)} · {words.perLayer(formatBytes(model.layerBytes))} ·{' '}
        {words.total(formatBytes(model.totalBytes))} · {model.licence} {model.gated && `· ${words.gated}`}
      </p>
      <Problem error={error.value} />
      {plan.value === null && (
        <button type="button" class="quiet small" aria-label={`${words.plan} ${model.repository}`} onClick={ask}>
          {words.plan}
        </button>
      )}
      {plan.value === 'asking' && <p class="note">{words.planning}</p>}
      {plan.value !== null && plan.value !== 'asking' && <Plan plan={plan.value} model={model.repository} />}
    </li>
  )
}

function Plan({ plan, model }: { plan: PlanBody; model: string }) {
  const { recommended, fits, nLayers } = plan
  if (recommended === null) return <p>{words.nothing}</p>
  return (
    <>
      <p>
        {words.fits(fits, nLayers)} {recommended.reason}
      </p>
      <PlanMap plan={plan} layers={recommended.layers} />
      <CopyField text={`llm-node setup --model ${model} --layers ${recommended.layers}`} label={words.plan} />
    </>
  )
}
