import type { GenerationBody } from '../lib/bodies.ts'
import { formatSpan, formatSpeed } from '../lib/format.ts'
import { texts } from '../texts.ts'
import { RouteLine } from './route-line.tsx'

/** An answer's way, its speed, and what happened to it. */
export function GenerationView({ generation }: { generation: GenerationBody }) {
  const { model, state, hops, tokens, tokensPerSecond, exact, profile, failovers, lastFailover, waitsFor, error } =
    generation
  const isRunning = state === 'running' || state === 'starting'
  return (
    <article class="generation" data-state={state}>
      <header>
        <strong>{model}</strong>
        <span class={`badge badge-${state}`}>{texts.pipeline.states[state]}</span>
        {exact !== null && (
          <span class="badge" title={exact ? texts.pipeline.exactAbout : texts.pipeline.inexactAbout}>
            {exact ? texts.pipeline.exact : texts.pipeline.inexact}
          </span>
        )}
        {profile !== null && (
          <span class="badge" title={texts.profiles[profile]}>
            {profile}
          </span>
        )}
        <span class="figures">
          {texts.pipeline.tokens(tokens)} · {formatSpeed(tokensPerSecond)}
        </span>
      </header>
      {hops.length > 0 && <RouteLine hops={hops} isRunning={isRunning} />}
      {failovers > 0 && (
        <p class="banner banner-warn" role="status">
          {lastFailover === null
            ? texts.pipeline.failovers(failovers)
            : texts.pipeline.failover(lastFailover.spans.map(formatSpan).join(', '), lastFailover.reason)}
        </p>
      )}
      {state === 'suspended' && (
        <p class="banner banner-warn" role="status">
          {texts.pipeline.waitsFor(waitsFor.join(', '))}
        </p>
      )}
      {error !== null && (
        <p class="banner banner-bad">
          <strong>{error.message}</strong> {error.hint} <small>({error.code})</small>
        </p>
      )}
    </article>
  )
}
