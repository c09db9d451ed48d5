import { Fragment } from 'preact'
import type { HopBody } from '../lib/bodies.ts'
import { formatMs, formatSpan, hueOf } from '../lib/format.ts'
import { nameOf } from '../lib/live.ts'
import { texts } from '../texts.ts'

/** You, each node with its layers, and back; while an answer runs, its rows travel along the line. */
export function RouteLine({ hops, isRunning }: { hops: readonly HopBody[]; isRunning: boolean }) {
  const slowest = Math.max(0.001, ...hops.map(({ ms }) => ms ?? 0))
  const { you, youAsk, youRead } = texts.pipeline
  return (
    <ol class={isRunning ? 'route route-running' : 'route'}>
      <li class="stop stop-you">
        <strong>{you}</strong>
        <small>{youAsk}</small>
      </li>
      {hops.map((hop) => (
        <Fragment key={`${hop.span.start} ${hop.address}`}>
          <li class="wire" aria-hidden="true" />
          <li class={hop.address === null ? 'stop stop-self' : 'stop'} style={{ '--hue': hueOf(hop.address ?? '') }}>
            <strong title={hop.address ?? ''}>{nameOf(hop.address)}</strong>
            <span>{texts.pipeline.layers(formatSpan(hop.span))}</span>
            <small>{formatMs(hop.ms)}</small>
            <span class="share" aria-hidden="true">
              <span style={{ width: `${((hop.ms ?? 0) / slowest) * 100}%` }} />
            </span>
          </li>
        </Fragment>
      ))}
      <li class="wire" aria-hidden="true" />
      <li class="stop stop-you">
        <strong>{you}</strong>
        <small>{youRead}</small>
      </li>
    </ol>
  )
}
