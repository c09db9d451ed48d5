import { encodeQR } from 'qr'

/** Dark on light in every theme: cameras want it so. */
export function QrCode({ text, label }: { text: string; label: string }) {
  const code = encodeQR(text, 'raw', { ecc: 'low', border: 2 })
  const path = code.flatMap((row, y) => row.flatMap((dark, x) => (dark ? [`M${x} ${y}h1v1h-1z`] : []))).join('')
  return (
    <svg
      class="qr"
      viewBox={`0 0 ${code.length} ${code.length}`}
      role="img"
      aria-label={label}
      shape-rendering="crispEdges"
    >
      <path d={path} />
    </svg>
  )
}
