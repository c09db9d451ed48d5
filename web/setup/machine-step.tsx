import { formatBytes } from '../lib/format.ts'
import { texts } from '../texts.ts'
import type { StepProps } from './step-props.ts'

const words = texts.setup.machine

export function MachineStep({ state, next, act }: StepProps) {
  const { machine, held, pending } = state
  const goOn = async () => {
    if (pending === null) return
    const { layers, ends, ...model } = pending
    if (await act('plan', model)) await act('fetch', { layers, ends })
  }
  return (
    <>
      <h1>{words.title}</h1>
      <p class="about">{words.about}</p>
      {machine === null ? (
        <p class="waiting">{texts.loading}</p>
      ) : (
        <dl>
          <dt>{words.processor}</dt>
          <dd>
            {machine.cpu.model ?? ''} {words.cores(machine.cpu.cores)}
          </dd>
          <dt>{words.memory}</dt>
          <dd>{words.memoryText(formatBytes(machine.memory.freeBytes), formatBytes(machine.memory.totalBytes))}</dd>
          {machine.disk !== null && (
            <>
              <dt>{words.disk}</dt>
              <dd>{words.diskText(formatBytes(machine.disk.freeBytes))}</dd>
            </>
          )}
          {held.length > 0 && (
            <>
              <dt>{words.held}</dt>
              <dd>{held.join(', ')}</dd>
            </>
          )}
        </dl>
      )}
      {machine !== null && <Share state={state} act={act} />}
      {machine?.onBattery === true && <p class="note">{words.battery}</p>}
      <details open>
        <summary>{texts.setup.privacy}</summary>
        <ul class="plain">
          {texts.privacy.map((line) => (
            <li key={line}>{line}</li>
          ))}
        </ul>
      </details>
      {state.phase === 'planning' && <p class="waiting">{texts.setup.model.planning}</p>}
      <p class="actions">
        {pending !== null && (
          <button type="button" class="quiet" disabled={state.phase === 'planning'} onClick={goOn}>
            {words.goOn(pending.layers.replace('-', '–'))}
          </button>
        )}
        <button type="button" onClick={next}>
          {words.go}
        </button>
      </p>
    </>
  )
}

/** Of the memory; the rest is for everything else on this machine. */
function Share({ state: { machine, shareMiB }, act }: Pick<StepProps, 'state' | 'act'>) {
  const whole = machine?.memory.totalBytes ?? 0
  const options = [0.75, 0.5, 0.25].map((part) => Math.floor((whole * part) / 1_048_576)).filter((mib) => mib >= 512)
  return (
    <label class="field">
      <span>{words.share}</span>
      <select
        value={shareMiB === null ? '' : String(shareMiB)}
        onChange={({ currentTarget: { value } }) =>
          void act('share', { memoryMiB: value === '' ? null : Number(value) })
        }
      >
        <option value="">{words.shareAll}</option>
        {shareMiB !== null && !options.includes(shareMiB) && <option value={shareMiB}>{sizeOf(shareMiB)}</option>}
        {options.map((mib) => (
          <option key={mib} value={mib}>
            {words.shareUpTo(sizeOf(mib))}
          </option>
        ))}
      </select>
    </label>
  )
}

function sizeOf(mib: number): string {
  return formatBytes(mib * 1_048_576)
}
