import type { FuzzTarget } from './target.ts'
import { answerTarget } from './targets/answers.ts'
import { controlTarget } from './targets/control.ts'
import { dataTarget, relayTarget } from './targets/data.ts'
import { frameTarget } from './targets/frames.ts'
import { gossipTarget } from './targets/gossip.ts'
import { handshakeTarget } from './targets/handshake.ts'
import { advertTarget, contactTarget } from './targets/records.ts'
import { safetensorsTarget } from './targets/safetensors.ts'
import { addressTarget, inviteTarget } from './targets/texts.ts'

/** Every parser that reads what strangers send, and the headers of files that come from elsewhere. */
export const fuzzTargets: readonly FuzzTarget[] = [
  frameTarget,
  controlTarget,
  handshakeTarget,
  dataTarget,
  relayTarget,
  answerTarget,
  contactTarget,
  advertTarget,
  gossipTarget,
  addressTarget,
  inviteTarget,
  safetensorsTarget,
]
