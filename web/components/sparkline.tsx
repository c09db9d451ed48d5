const WIDTH = 160
const HEIGHT = 36

/** The last minute, one point a second. */
export function Sparkline({ values, label }: { values: readonly number[]; label: string }) {
  const most = Math.max(1, ...values)
  const step = WIDTH / 59
  const x = (index: number) => WIDTH - (values.length - 1 - index) * step
  const points = values.map(
    (value, index) => `${x(index).toFixed(1)},${(HEIGHT - 2 - (value / most) * (HEIGHT - 4)).toFixed(1)}`,
  )
  return (
    <svg class="sparkline" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={label} preserveAspectRatio="none">
      <line x1="0" y1={HEIGHT - 1} x2={WIDTH} y2={HEIGHT - 1} />
      {values.length > 1 && <polyline points={points.join(' ')} />}
    </svg>
  )
}
