import type { ComponentChildren } from 'preact'

/** One matter, with its name. */
export function Card({
  title,
  children,
  wide = false,
}: {
  title: string
  children: ComponentChildren
  wide?: boolean
}) {
  return (
    <section class={wide ? 'card card-wide' : 'card'}>
      <h2>{title}</h2>
      {children}
    </section>
  )
}
