import type { PageName } from '../texts.ts'

const paths: Readonly<Record<PageName, string>> = {
  overview: 'M4 11 12 4l8 7v9h-5v-6H9v6H4z',
  chat: 'M4 5h16v11H9l-5 4z',
  coverage: 'M4 6h9M7 12h10M11 18h9',
  pipeline: 'M5 12h3m8 0h3M8 9h8v6H8z',
  peers:
    'M8 10a3 3 0 1 0 0-6 3 3 0 0 0 0 6zm9 1a2.4 2.4 0 1 0 0-5M2.500 20c.5-4 2.500-6 5.500-6s5 2 5.500 6m3-5.500c2.500 0 4.500 1.500 5 5',
  models: 'm12 3 8 4.500-8 4.500-8-4.500zM4 12l8 4.500 8-4.500M4 16.500 12 21l8-4.500',
  settings: 'M5 7h9m4 0h1M5 17h1m4 0h9M14 5v4m-4 6v4',
}

/** Decoration only: the name of the page stands beside it. */
export function Icon({ name }: { name: PageName }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      <path d={paths[name]} />
    </svg>
  )
}
