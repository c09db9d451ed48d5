import { p2pLimits } from '../base/limits.ts'
import { CIRCUIT_HEADER_BYTES, CIRCUIT_PROTOCOL, circuitFrameLength } from './circuit-frames.ts'
import type { FramedStream } from './framed-stream.ts'
import type { Host } from './host.ts'
import { type FrameRules, frameStream } from './streams.ts'

export const circuitRules: FrameRules = { headerBytes: CIRCUIT_HEADER_BYTES, frameLength: circuitFrameLength }

/** The handler is registered in any case: without it the limits of outbound circuit streams would be libp2p's 64. */
export async function acceptCircuits(host: Host): Promise<{ onLink(handler: (link: FramedStream) => void): void }> {
  let handler: ((link: FramedStream) => void) | undefined
  await host.handle(
    CIRCUIT_PROTOCOL,
    (stream, connection) => {
      if (handler === undefined) stream.abort(new Error('no circuits here'))
      else handler(frameStream(stream, connection, circuitRules))
    },
    {
      maxInboundStreams: p2pLimits.circuitStreams,
      maxOutboundStreams: p2pLimits.circuitStreams,
      runOnLimitedConnection: true,
    },
  )
  return {
    onLink(next) {
      handler = next
    },
  }
}
