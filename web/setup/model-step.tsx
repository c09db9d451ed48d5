import { formatBytes } from '../lib/format.ts'
import { texts } from '../texts.ts'
import { choice, choose } from './choice.ts'
import type { StepProps } from './step-props.ts'

const words = texts.setup.model
const OTHER = 'other'

export function ModelStep({ state, next, back, act }: StepProps) {
  const { model, other } = choice.value
  const isPlanning = state.phase === 'planning'
  const submit = async (event: Event) => {
    event.preventDefault()
    const wanted = model === OTHER ? other.trim() : model === '' ? state.bundled : model
    choose({ layers: '' })
    if (await act('plan', { model: wanted })) next()
  }
  return (
    <form onSubmit={submit}>
      <h1>{words.title}</h1>
      <p class="about">{words.about}</p>
      <fieldset class="options">
        <legend class="hidden">{words.title}</legend>
        <Option value="" name={words.bundled} about={words.bundledAbout} />
        {state.catalogue.map(({ repository, nLayers, layerBytes, totalBytes, licence, gated }) => (
          <Option
            key={repository}
            value={repository}
            name={repository}
            about={[
              texts.models.layers(nLayers),
              texts.models.perLayer(formatBytes(layerBytes)),
              texts.models.total(formatBytes(totalBytes)),
              licence,
              ...(gated ? [texts.models.gated] : []),
            ].join(' · ')}
          />
        ))}
        <Option value={OTHER} name={words.other} about={words.otherAbout} />
      </fieldset>
      {model === OTHER && (
        <label class="field">
          <span>{words.otherField}</span>
          <input
            required
            spellcheck={false}
            value={other}
            onInput={(event) => choose({ other: event.currentTarget.value })}
          />
        </label>
      )}
      {isPlanning && (
        <p class="waiting" role="status">
          {words.planning}
        </p>
      )}
      <p class="actions">
        <button type="button" class="quiet" onClick={back}>
          {texts.setup.back}
        </button>
        <button type="submit" disabled={isPlanning}>
          {words.plan}
        </button>
      </p>
    </form>
  )
}

function Option({ value, name, about }: { value: string; name: string; about: string }) {
  return (
    <label class="option">
      <input
        type="radio"
        name="model"
        checked={choice.value.model === value}
        onChange={() => choose({ model: value })}
      />
      <span>
        <strong>{name}</strong>
        <small>{about}</small>
      </span>
    </label>
  )
}
