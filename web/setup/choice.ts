import { signal } from '@preact/signals'

/** What has been typed so far; it survives going back and forth. */
export const choice = signal({
  network: '',
  invite: '',
  byInvite: false,
  /** Empty: the bundled one. */
  model: '',
  other: '',
  /** Empty: the recommended ones. */
  layers: '',
  ends: true,
})

export function choose(change: Partial<typeof choice.value>): void {
  choice.value = { ...choice.value, ...change }
}
