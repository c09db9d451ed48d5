import type { ErrorCode } from '../base/errors.ts'

/** Exit codes: 1 a fault of ours, 2 wrong input, 3 this machine or home, 4 the model files, 5 the swarm, 130 stopped. */
export function exitCodeOf(code: ErrorCode): number {
  switch (code) {
    case 'BAD_INPUT':
    case 'BAD_ADDRESS':
    case 'BAD_CONFIG':
    case 'CONTEXT_TOO_LONG':
      return 2
    case 'HOME_UNUSABLE':
    case 'HOME_IN_USE':
    case 'PORT_IN_USE':
    case 'NOT_SET_UP':
    case 'NOT_RUNNING':
    case 'VERSION_TOO_OLD':
    case 'DISK_FULL':
    case 'OUT_OF_MEMORY':
    case 'ENGINE_UNAVAILABLE':
    case 'PAGES_MISSING':
      return 3
    case 'MODEL_NOT_FOUND':
    case 'MODEL_UNSUPPORTED':
    case 'MODEL_CORRUPT':
    case 'MODEL_CHANGED':
    case 'DOWNLOAD_FAILED':
      return 4
    case 'COVERAGE_GAP':
    case 'COVERAGE_FRAGMENTED':
    case 'NO_RELAY':
    case 'PEER_UNREACHABLE':
    case 'PEER_REFUSED':
    case 'CIRCUIT_BROKEN':
    case 'HOP_TIMEOUT':
    case 'KV_FULL':
    case 'SPAN':
    case 'BAD_RECORD':
    case 'BAD_FRAME':
    case 'AUTH_FAILED':
    case 'CONTACT_CHANGED':
    case 'LIMIT':
    case 'DEADLINE':
      return 5
    case 'ABORTED':
      return 130
    case 'ENGINE_FAILED':
    case 'INTERNAL':
      return 1
  }
}
