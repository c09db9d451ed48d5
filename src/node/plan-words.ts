import { formatSpan, spanLength } from '../base/span.ts'
import type { Assignment } from '../coverage/assign.ts'

/** Why these layers, in one sentence without the figures of the download. */
export function reasonText(assignment: Assignment, facts: { name: string; peers: number }): string {
  const { span, reason, replicasBefore } = assignment
  const one = spanLength(span) === 1
  const layers = `layer${one ? '' : 's'} ${formatSpan(span)} of ${facts.name}`
  const Layers = `L${layers.slice(1)}`
  const [are, them] = one ? ['is', 'it'] : ['are', 'them']
  switch (reason) {
    case 'first':
      return facts.peers === 0
        ? `No other node was found; ${layers} ${are} what fits here.`
        : `Nobody holds ${facts.name} yet; you would bring ${layers}.`
    case 'gap':
      return assignment.gapLayers === spanLength(span)
        ? `${Layers} ${are} held by nobody; you would close the gap.`
        : `${assignment.gapLayers} of ${layers} are held by nobody; you would close the gap.`
    case 'fragmented':
      return `Every layer of ${facts.name} is held, but in too many pieces; ${layers} would make routes short enough.`
    case 'weakest':
    case 'everything':
      return replicasBefore === 1
        ? `${Layers} ${are} held by one peer; you would make ${them} safe.`
        : `${Layers} ${are} the weakest part of the swarm; you would make ${them} stronger.`
  }
}
