import { useSignal } from '@preact/signals'
import { postJson } from '../lib/api.ts'
import type { ConfigBody } from '../lib/bodies.ts'
import { texts } from '../texts.ts'
import { Problem } from './problem.tsx'

interface SettingFieldProps {
  /** "privacy.profile" */
  readonly path: string
  readonly name: string
  readonly about: string
  readonly config: ConfigBody['config']
}

type Value = string | number | boolean | null

/** One setting, saved when it is changed. */
export function SettingField({ path, name, about, config }: SettingFieldProps) {
  const initial = valueAt(config, path)
  const saved = useSignal(false)
  const error = useSignal<unknown>(undefined)
  const save = (value: Value) => {
    postJson<ConfigBody>('/api/config', { path, value }).then(
      () => {
        saved.value = true
        error.value = undefined
      },
      (thrown) => {
        error.value = thrown
      },
    )
  }
  const id = `setting-${path}`
  return (
    <div class="setting">
      <label for={id}>
        <strong>{name}</strong>
        <small>{about}</small>
      </label>
      <Field id={id} path={path} initial={initial} save={save} />
      {saved.value && (
        <p class="note" role="status">
          {texts.settings.saved}
        </p>
      )}
      <Problem error={error.value} />
    </div>
  )
}

function Field({
  id,
  path,
  initial,
  save,
}: {
  id: string
  path: string
  initial: Value
  save: (value: Value) => void
}) {
  if (typeof initial === 'boolean') {
    return <input id={id} type="checkbox" checked={initial} onChange={(event) => save(event.currentTarget.checked)} />
  }
  if (path === 'privacy.profile') {
    return (
      <select id={id} value={String(initial)} onChange={(event) => save(event.currentTarget.value)}>
        {Object.entries(texts.profiles).map(([value, text]) => (
          <option key={value} value={value}>
            {text}
          </option>
        ))}
      </select>
    )
  }
  const read = (text: string): Value => (text.trim() === '' ? null : /^\d+$/.test(text.trim()) ? Number(text) : text)
  return (
    <input
      id={id}
      value={initial === null ? '' : String(initial)}
      onChange={(event) => save(read(event.currentTarget.value))}
    />
  )
}

function valueAt(config: ConfigBody['config'], path: string): Value {
  let at: unknown = config
  for (const key of path.split('.')) at = (at as Record<string, unknown> | undefined)?.[key]
  return typeof at === 'string' || typeof at === 'number' || typeof at === 'boolean' ? at : null
}
