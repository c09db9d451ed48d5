import { useSignal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import { PlanMap } from '../components/plan-map.tsx'
import { postJson } from '../lib/api.ts'
import type { CostBody, PlanBody } from '../lib/bodies.ts'
import { formatBytes, formatSpeed } from '../lib/format.ts'
import { texts } from '../texts.ts'
import { choice, choose } from './choice.ts'
import type { StepProps } from './step-props.ts'

const words = texts.setup.layers

export function LayersStep({ state: { plan }, back, act }: StepProps) {
  if (plan === null) return <p class="waiting">{texts.loading}</p>
  const best = plan.recommended?.layers
  const layers = choice.value.layers === '' ? (best ?? 'none') : choice.value.layers
  const submit = async (event: Event) => {
    event.preventDefault()
    await act('fetch', { layers, ends: layers === 'none' || choice.value.ends })
  }
  return (
    <form onSubmit={submit}>
      <h1>{words.title}</h1>
      <p class="about">
        {words.about} {plan.fits === 0 ? words.nothing : words.fits(plan.fits, plan.nLayers)}
      </p>
      <PlanMap plan={plan} layers={layers} />
      <Estimate plan={plan} />
      <fieldset class="options">
        <legend class="hidden">{words.title}</legend>
        {plan.recommended !== null && (
          <Option
            isChosen={choice.value.layers === ''}
            choose={() => choose({ layers: '' })}
            name={`${words.recommended}: ${texts.pipeline.layers(plan.recommended.layers.replace('-', '–'))}`}
            about={`${words.why(plan.recommended.reason)} ${costText(plan.recommended)}`}
          />
        )}
        <Own plan={plan} layers={layers} isChosen={choice.value.layers !== '' && layers !== 'none'} />
        <Option isChosen={layers === 'none'} choose={() => choose({ layers: 'none' })} name={words.only} about="" />
      </fieldset>
      {layers !== 'none' && (
        <label class="check">
          <input
            type="checkbox"
            checked={choice.value.ends}
            onChange={(event) => choose({ ends: event.currentTarget.checked })}
          />
          {words.ends}
        </label>
      )}
      <p class="actions">
        <button type="button" class="quiet" onClick={back}>
          {texts.setup.back}
        </button>
        <button type="submit">{words.fetch}</button>
      </p>
    </form>
  )
}

function Estimate({ plan: { estimate } }: { plan: PlanBody }) {
  const { solo, split } = estimate
  const rates = [
    ...(solo === null ? [] : [words.alone(formatSpeed(solo))]),
    ...(split === null ? [] : [words.together(formatSpeed(split))]),
  ]
  return rates.length === 0 ? null : <p class="note">{words.estimate(rates.join(', '))}</p>
}

function costText({ downloadBytes, minutes, memoryBytes }: CostBody): string {
  const time = minutes === 0 ? words.local : minutes < 1 ? words.underAMinute : words.minutes(Math.ceil(minutes))
  return words.cost(formatBytes(downloadBytes), time, formatBytes(memoryBytes))
}

function Option(props: { isChosen: boolean; choose: () => void; name: string; about: string }) {
  return (
    <label class="option">
      <input type="radio" name="layers" checked={props.isChosen} onChange={props.choose} />
      <span>
        <strong>{props.name}</strong>
        <small>{props.about}</small>
      </span>
    </label>
  )
}

function Own({ plan, layers, isChosen }: { plan: PlanBody; layers: string; isChosen: boolean }) {
  const cost = useSignal<CostBody | undefined>(undefined)
  const [first = '0', last = first] = isChosen ? layers.split('-') : []
  useEffect(() => {
    if (!isChosen) return
    postJson<CostBody>('/api/setup/cost', { layers }).then(
      (found) => {
        cost.value = found
      },
      () => {
        cost.value = undefined
      },
    )
  }, [isChosen, layers, cost])
  const take = (from: number, to: number) => choose({ layers: `${Math.min(from, to)}-${Math.max(from, to)}` })
  const most = plan.nLayers - 1
  return (
    <div class="option-own">
      <Option
        isChosen={isChosen}
        choose={() => take(0, Math.min(most, Math.max(0, plan.fits - 1)))}
        name={words.own}
        about={isChosen && cost.value !== undefined ? costText(cost.value) : ''}
      />
      {isChosen && (
        <p class="inline">
          <NumberField
            label={words.from}
            value={Number(first)}
            max={most}
            onInput={(value) => take(value, Number(last))}
          />
          <NumberField
            label={words.to}
            value={Number(last)}
            max={most}
            onInput={(value) => take(Number(first), value)}
          />
        </p>
      )}
    </div>
  )
}

function NumberField(props: { label: string; value: number; max: number; onInput: (value: number) => void }) {
  const read = (text: string) => Math.max(0, Math.min(props.max, Math.floor(Number(text) || 0)))
  return (
    <label>
      {props.label}{' '}
      <input
        type="number"
        min={0}
        max={props.max}
        value={props.value}
        onChange={(event) => props.onInput(read(event.currentTarget.value))}
      />
    </label>
  )
}
