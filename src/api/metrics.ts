import { Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { Admission } from './admission.ts'
import type { RequestUsage } from './openai/parts.ts'
import type { NodeControl } from './types.ts'

/** What /metrics tells, in Prometheus' text format. Nothing in it names a peer, a client or a text. */
export interface Metrics {
  request(route: string, status: number, seconds: number): void
  usage(usage: RequestUsage): void
  readonly contentType: string
  text(): Promise<string>
}

export function createMetrics(control: NodeControl, admission: Admission): Metrics {
  const registers = [new Registry()]
  const [registry] = registers as [Registry]
  const gauge = (name: string, help: string, read: () => number) => {
    const made: Gauge = new Gauge({ name: `llm_node_${name}`, help, registers, collect: () => made.set(read()) })
  }
  gauge('uptime_seconds', 'Since the start of the node.', () => control.status().uptimeS)
  gauge('resident_memory_bytes', 'Memory of the process.', () => control.status().rssBytes)
  gauge('peers', 'Connected peers.', () => control.status().peers)
  gauge('circuits', 'Circuits through this node.', () => control.status().circuits)
  gauge('hop_sessions', 'Sessions held here for others.', () => control.sessions().length)
  gauge('kv_bytes', 'Memory that keys and values take now.', () => control.status().kvBytes)
  gauge('hop_decode_steps', 'Decode steps computed for others since the start.', () => control.status().decode.steps)
  gauge('models_complete', 'Known models of which every layer is held.', () => {
    return control.coverage().models.filter(({ complete }) => complete).length
  })
  gauge('coverage_gaps', 'Runs of layers that nobody holds, over all known models.', () => {
    return control.coverage().models.reduce((sum, { gaps }) => sum + gaps.length, 0)
  })
  gauge('requests_under_way', 'Generations and embeddings under way as entry.', () => admission.underWay)
  const requests = new Counter({
    name: 'llm_node_http_requests_total',
    help: 'Answered requests.',
    labelNames: ['route', 'status'],
    registers,
  })
  const seconds = new Histogram({
    name: 'llm_node_http_request_seconds',
    help: 'Until the answer, or a stream of it, began.',
    labelNames: ['route'],
    buckets: [0.005, 0.02, 0.1, 0.5, 2, 10, 60],
    registers,
  })
  const tokens = new Counter({
    name: 'llm_node_tokens_total',
    help: 'Tokens of finished requests.',
    labelNames: ['kind'],
    registers,
  })
  return {
    contentType: registry.contentType,
    request(route, status, elapsed) {
      requests.inc({ route, status })
      seconds.observe({ route }, elapsed)
    },
    usage({ prompt_tokens, completion_tokens = 0 }) {
      tokens.inc({ kind: 'prompt' }, prompt_tokens)
      tokens.inc({ kind: 'completion' }, completion_tokens)
    },
    text: () => registry.metrics(),
  }
}
