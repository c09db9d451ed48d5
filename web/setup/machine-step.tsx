import { formatBytes } from '../lib/format.ts'
import { texts } from '../texts.ts'
import type { StepProps } from './step-props.ts'

const words = texts.setup.machine

export function MachineStep({ state: { machine, held }, next }: StepProps) {
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
      {machine?.onBattery === true && <p class="note">{words.battery}</p>}
      <details open>
        <summary>{texts.setup.privacy}</summary>
        <ul class="plain">
          {texts.privacy.map((line) => (
            <li key={line}>{line}</li>
          ))}
        </ul>
      </details>
      <p class="actions">
        <button type="button" onClick={next}>
          {words.go}
        </button>
      </p>
    </>
  )
}
