import type { SetupBody } from '../lib/bodies.ts'

export interface StepProps {
  readonly state: SetupBody
  readonly next: () => void
  readonly back: () => void
  /** A request to the set-up; false when it was refused, which the page then says. */
  readonly act: (verb: string, body?: unknown) => Promise<boolean>
}
