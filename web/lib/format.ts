import type { Span } from './bodies.ts'

export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  let value = bytes
  let unit = 0
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000
    unit++
  }
  return `${value < 10 && unit > 0 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`
}

/** [4, 8) → "4–7". */
export function formatSpan({ start, end }: Span): string {
  return end - start === 1 ? String(start) : `${start}–${end - 1}`
}

export function formatMs(ms: number | null): string {
  if (ms === null) return '–'
  return ms < 10 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`
}

export function formatDuration(seconds: number): string {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`
  if (seconds < 3_600) return `${Math.round(seconds / 60)} min`
  if (seconds < 86_400) return `${Math.floor(seconds / 3_600)} h ${Math.round((seconds % 3_600) / 60)} min`
  return `${Math.floor(seconds / 86_400)} d ${Math.round((seconds % 86_400) / 3_600)} h`
}

export function formatSpeed(tokensPerSecond: number | null): string {
  if (tokensPerSecond === null) return '–'
  return `${tokensPerSecond < 10 ? tokensPerSecond.toFixed(1) : Math.round(tokensPerSecond)} tok/s`
}

export function shortAddress(address: string): string {
  return `${address.slice(0, 8)}…`
}

/** The same colour for the same peer everywhere, 0–359. */
export function hueOf(address: string): number {
  let hash = 0
  for (const character of address) hash = (hash * 31 + character.charCodeAt(0)) % 3_600
  // Golden steps keep neighbours apart; red is for gaps.
  return 40 + ((hash * 137) % 290)
}
