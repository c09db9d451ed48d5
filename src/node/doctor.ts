import type { Config } from '../base/config.ts'
import { isLlmNodeError, toLlmNodeError } from '../base/errors.ts'
import type { Home } from './home.ts'

/** What one check has found, as sentences. */
export interface Finding {
  /** `skip`: the question does not arise here. */
  readonly status: 'ok' | 'warn' | 'fail' | 'skip'
  readonly finding: string
  /** What to do; null when there is nothing to do. */
  readonly fix: string | null
}

export interface CheckResult extends Finding {
  readonly name: string
}

/** What every check may look at. */
export interface DoctorContext {
  readonly home: Home
  /** Undefined when the configuration cannot be read; one check says why. */
  readonly config: Config | undefined
  readonly signal: AbortSignal
}

export interface Check {
  readonly name: string
  run(context: DoctorContext): Promise<Finding>
}

/** All checks together; whoever has no answer by then is said to be too slow. */
const doctorMs = 5_000

export const ok = (finding: string): Finding => ({ status: 'ok', finding, fix: null })
export const skip = (finding: string): Finding => ({ status: 'skip', finding, fix: null })
export const warn = (finding: string, fix: string): Finding => ({ status: 'warn', finding, fix })
export const fail = (finding: string, fix: string): Finding => ({ status: 'fail', finding, fix })

/** Runs the checks side by side. Never throws: a check that fails to run is a finding too. */
export async function runDoctor(
  checks: readonly Check[],
  subject: Omit<DoctorContext, 'signal'>,
  options: { signal: AbortSignal; limitMs?: number },
): Promise<readonly CheckResult[]> {
  const deadline = AbortSignal.timeout(options.limitMs ?? doctorMs)
  const signal = AbortSignal.any([options.signal, deadline])
  return Promise.all(checks.map((check) => runCheck(check, { ...subject, signal })))
}

async function runCheck(check: Check, context: DoctorContext): Promise<CheckResult> {
  const { signal } = context
  const late = new Promise<Finding>((resolve) => {
    const say = () => resolve(warn('Took too long to answer.', 'Run llm-node doctor again when the machine is idle.'))
    if (signal.aborted) say()
    else signal.addEventListener('abort', say, { once: true })
  })
  const found = check.run(context).catch((thrown: unknown): Finding => {
    const error = toLlmNodeError(thrown)
    const fix = error.hint ?? 'Run the command again with --debug to see more.'
    return isLlmNodeError(thrown) ? fail(error.message, fix) : warn(`Could not be checked: ${error.message}`, fix)
  })
  return { name: check.name, ...(await Promise.race([found, late])) }
}
