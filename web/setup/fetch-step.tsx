import { Problem } from '../components/problem.tsx'
import type { SetupBody } from '../lib/bodies.ts'
import { formatBytes, formatDuration } from '../lib/format.ts'
import { Checks } from '../pages/settings.tsx'
import { texts } from '../texts.ts'
import { choice } from './choice.ts'
import type { StepProps } from './step-props.ts'

const words = texts.setup.fetch

export function FetchStep({ state, act, back }: StepProps) {
  const { phase, progress, tests, error, layers } = state
  const again = () => act('fetch', { layers: layers ?? choice.value.layers, ends: choice.value.ends })
  const isPaused = phase === 'choosing'
  return (
    <>
      <h1>{words.title}</h1>
      <p class="about">{words.about}</p>
      {progress !== null && <Progress progress={progress} />}
      <p role="status" class="waiting">
        {phase === 'testing' && words.testing}
        {phase === 'starting' && words.starting}
        {isPaused && words.paused}
      </p>
      {tests.length > 0 && (
        <section aria-label={texts.setup.tests}>
          <Checks checks={tests} />
        </section>
      )}
      {phase === 'failed' && <Problem error={error} />}
      <p class="actions">
        {phase === 'fetching' && (
          <button type="button" class="quiet" onClick={() => act('pause')}>
            {words.pause}
          </button>
        )}
        {(isPaused || phase === 'failed') && (
          <>
            <button type="button" class="quiet" onClick={back}>
              {texts.setup.back}
            </button>
            <button type="button" onClick={again}>
              {isPaused ? words.resume : words.again}
            </button>
          </>
        )}
      </p>
    </>
  )
}

function Progress({ progress }: { progress: NonNullable<SetupBody['progress']> }) {
  const { bytesDone, bytesTotal, bytesPerSecond, secondsLeft } = progress
  const facts = [
    words.of(formatBytes(bytesDone), formatBytes(bytesTotal)),
    ...(bytesPerSecond === null ? [] : [`${formatBytes(bytesPerSecond)}/s`]),
    ...(secondsLeft === null || secondsLeft < 1 ? [] : [words.left(formatDuration(secondsLeft))]),
  ]
  return (
    <div class="progress">
      <progress aria-label={words.title} max={Math.max(1, bytesTotal)} value={bytesDone} />
      <p>{facts.join(' · ')}</p>
    </div>
  )
}
