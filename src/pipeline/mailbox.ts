/** News that come beside a stream of results, for a generator that has to pass on both in time. */
export interface Mailbox<T> {
  /** Posted so far. */
  readonly count: number
  post: (item: T) => void
  take(): T[]
  /** Waits for either: true when there is news to take, false when there is none and `coming` has settled. */
  comesBefore(coming: Promise<unknown>): Promise<boolean>
}

export function createMailbox<T>(): Mailbox<T> {
  let items: T[] = []
  let count = 0
  let wake = () => {}
  return {
    get count() {
      return count
    },
    post(item) {
      items.push(item)
      count++
      wake()
    },
    take() {
      const taken = items
      items = []
      return taken
    },
    async comesBefore(coming) {
      if (items.length > 0) return true
      const posted = new Promise<void>((resolve) => {
        wake = resolve
      })
      const settled = coming.catch(() => {})
      await Promise.race([posted, settled])
      return items.length > 0
    },
  }
}
