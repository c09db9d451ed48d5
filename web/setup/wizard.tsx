import { signal } from '@preact/signals'
import type { FunctionComponent } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import { Problem } from '../components/problem.tsx'
import { getJson, postJson } from '../lib/api.ts'
import type { SetupBody } from '../lib/bodies.ts'
import { connection, follow } from '../lib/follow.ts'
import { texts } from '../texts.ts'
import { choice } from './choice.ts'
import { DoneStep } from './done-step.tsx'
import { FetchStep } from './fetch-step.tsx'
import { LayersStep } from './layers-step.tsx'
import { MachineStep } from './machine-step.tsx'
import { ModelStep } from './model-step.tsx'
import { NetworkStep } from './network-step.tsx'
import type { StepProps } from './step-props.ts'

const words = texts.setup
const state = signal<SetupBody | null>(null)
const step = signal(0)
const failure = signal<unknown>(undefined)

const steps: readonly FunctionComponent<StepProps>[] = [
  MachineStep,
  NetworkStep,
  ModelStep,
  LayersStep,
  FetchStep,
  DoneStep,
]

let started = false

async function load(): Promise<void> {
  show(await getJson<SetupBody>('/api/setup'))
}

/** The server knows how far it is; the page follows, also after a reload. */
function show(next: SetupBody): void {
  if (state.value === null) choice.value = { ...choice.value, network: next.network.name }
  state.value = next
  if (next.phase === 'running') step.value = 5
  else if (['fetching', 'testing', 'starting'].includes(next.phase)) step.value = 4
}

async function act(verb: string, body: unknown = {}): Promise<boolean> {
  try {
    show(await postJson<SetupBody>(`/api/setup/${verb}`, body))
    failure.value = undefined
    return true
  } catch (error) {
    failure.value = error
    return false
  }
}

function goTo(next: number): void {
  failure.value = undefined
  step.value = Math.max(0, Math.min(steps.length - 1, next))
}

export function Wizard() {
  useEffect(() => {
    if (!started) void follow({ load, apply: (_, data) => show(data as SetupBody) })
    started = true
  }, [])
  const title = useRef<HTMLElement>(null)
  useEffect(() => {
    title.current?.focus()
    scrollTo(0, 0)
  }, [step.value])
  const now = state.value
  const Step = steps[step.value] ?? MachineStep
  return (
    <div class="wizard">
      <header class="wizard-head">
        <img src="/icon.svg" alt="" width="32" height="32" />
        <p>{words.title}</p>
        <ol class="steps" aria-label={words.stepOf(step.value + 1, steps.length)}>
          {words.steps.map((name, index) => (
            <li key={name} class={stepClass(index)} aria-current={index === step.value ? 'step' : undefined}>
              {name}
            </li>
          ))}
        </ol>
      </header>
      <main ref={title} tabIndex={-1} class="card wizard-main">
        {connection.value === 'lost' && (
          <p class="banner banner-warn" role="status">
            {texts.connection.lost}
          </p>
        )}
        {now === null ? (
          <p class="waiting">{texts.loading}</p>
        ) : (
          <Step state={now} next={() => goTo(step.value + 1)} back={() => goTo(step.value - 1)} act={act} />
        )}
        <Problem error={failure.value} />
      </main>
    </div>
  )
}

function stepClass(index: number): string {
  return index < step.value ? 'step-done' : index === step.value ? 'step-now' : 'step-later'
}
