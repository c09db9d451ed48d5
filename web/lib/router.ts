import { signal } from '@preact/signals'

/** What follows "#/" in the address. */
const read = () => location.hash.replace(/^#\/?/, '').split('?')[0] ?? ''

export const route = signal(read())

addEventListener('hashchange', () => {
  route.value = read()
  scrollTo(0, 0)
})

export function go(path: string): void {
  location.hash = `#/${path}`
}
