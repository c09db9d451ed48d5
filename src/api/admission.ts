import { LlmNodeError } from '../base/errors.ts'

/** Counts what is under way, so that a flood is refused at once instead of waiting. */
export interface Admission {
  readonly underWay: number
  /** Throws LIMIT when too much is under way. The result ends the visit; calling it again does nothing. */
  enter(): () => void
}

export function createAdmission(max: number): Admission {
  let underWay = 0
  return {
    get underWay() {
      return underWay
    },
    enter() {
      if (underWay >= max) {
        throw new LlmNodeError('LIMIT', `${max} requests are under way here already.`, { hint: 'Try again soon.' })
      }
      underWay++
      let left = false
      return () => {
        if (!left) underWay--
        left = true
      }
    },
  }
}
