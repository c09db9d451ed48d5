import { useSignal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import { Card } from '../components/card.tsx'
import { Problem } from '../components/problem.tsx'
import { SettingField } from '../components/setting-field.tsx'
import { getJson, postJson } from '../lib/api.ts'
import type { ConfigBody, DoctorBody } from '../lib/bodies.ts'
import { status } from '../lib/live.ts'
import { texts } from '../texts.ts'

const words = texts.settings

/** What can be changed, whether all is well, and the end of it. */
export function Settings() {
  const config = useSignal<ConfigBody | null>(null)
  const error = useSignal<unknown>(undefined)
  useEffect(() => {
    getJson<ConfigBody>('/api/config').then(
      (found) => {
        config.value = found
      },
      (thrown) => {
        error.value = thrown
      },
    )
  }, [config, error])
  const found = config.value
  return (
    <>
      <h1>{words.title}</h1>
      <Problem error={error.value} />
      {found !== null && (
        <Card title={words.change} wide>
          <p class="note">{words.about(found.file)}</p>
          {Object.entries(words.fields).map(([path, [name, about]]) => (
            <SettingField key={path} path={path} name={name} about={about} config={found.config} />
          ))}
          <details>
            <summary>{words.all}</summary>
            <pre>{JSON.stringify(found.config, null, 2)}</pre>
          </details>
        </Card>
      )}
      <Doctor />
      <Rest />
      <Stop />
    </>
  )
}

function Doctor() {
  const checks = useSignal<DoctorBody['checks'] | 'asking' | null>(null)
  const error = useSignal<unknown>(undefined)
  const ask = () => {
    checks.value = 'asking'
    getJson<DoctorBody>('/api/doctor').then(
      (found) => {
        checks.value = found.checks
      },
      (thrown) => {
        checks.value = null
        error.value = thrown
      },
    )
  }
  return (
    <Card title={words.doctor} wide>
      <p class="note">{words.doctorAbout}</p>
      <button type="button" class="quiet" disabled={checks.value === 'asking'} onClick={ask}>
        {checks.value === 'asking' ? words.checking : words.doctor}
      </button>
      <Problem error={error.value} />
      {checks.value !== null && checks.value !== 'asking' && <Checks checks={checks.value} />}
    </Card>
  )
}

export function Checks({ checks }: { checks: DoctorBody['checks'] }) {
  return (
    <ul class="health">
      {checks.map(({ name, status, finding, fix }) => (
        <li key={name} class={status === 'ok' || status === 'skip' ? 'good' : 'bad'}>
          <span>
            <strong>{name}</strong> {finding}
          </span>
          {fix !== null && <small>{fix}</small>}
        </li>
      ))}
    </ul>
  )
}

function Rest() {
  const error = useSignal<unknown>(undefined)
  const paused = status.value?.paused ?? null
  const change = () => {
    postJson<{ paused: string | null }>(paused === null ? '/api/pause' : '/api/resume', {}).then(
      (next) => {
        if (status.value !== null) status.value = { ...status.value, ...next }
        error.value = undefined
      },
      (thrown) => {
        error.value = thrown
      },
    )
  }
  return (
    <Card title={words.pause} wide>
      <p class="note">{paused === null ? words.pauseAbout : texts.overview.paused(paused)}</p>
      <Problem error={error.value} />
      <button type="button" class="quiet" onClick={change}>
        {paused === null ? words.pauseNow : words.resume}
      </button>
    </Card>
  )
}

function Stop() {
  const state = useSignal<'no' | 'sure?' | 'stopped'>('no')
  const error = useSignal<unknown>(undefined)
  const stop = () => {
    postJson('/api/stop', {}).then(
      () => {
        state.value = 'stopped'
      },
      (thrown) => {
        error.value = thrown
      },
    )
  }
  const press = () => {
    if (state.value === 'sure?') stop()
    else state.value = 'sure?'
  }
  return (
    <Card title={words.stop} wide>
      <p class="note">{words.stopAbout}</p>
      <Problem error={error.value} />
      {state.value === 'stopped' ? (
        <p role="status">{words.stopped}</p>
      ) : (
        <button type="button" class="danger" onClick={press}>
          {state.value === 'sure?' ? words.stopConfirm : words.stop}
        </button>
      )}
    </Card>
  )
}
