/** A line plot as SVG text, both axes logarithmic: for results that are committed and looked at in a browser. */
export interface PlotLine {
  readonly name: string
  readonly points: readonly (readonly [x: number, y: number])[]
}

const [WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM] = [720, 420, 80, 50, 180, 50]
const COLOURS = ['#1f6feb', '#bf3989', '#1a7f37', '#9a6700']

export function plotLines(title: string, axes: { x: string; y: string }, lines: readonly PlotLine[]): string {
  const points = lines.flatMap((line) => line.points).filter(([x, y]) => x > 0 && y > 0)
  const rangeOf = (values: readonly number[]): [number, number] => [
    Math.floor(Math.log10(Math.min(...values))),
    Math.max(Math.ceil(Math.log10(Math.max(...values))), Math.floor(Math.log10(Math.min(...values))) + 1),
  ]
  const [x0, x1] = rangeOf(points.map(([x]) => x))
  const [y0, y1] = rangeOf(points.map(([, y]) => y))
  const atX = (x: number) => LEFT + ((Math.log10(x) - x0) / (x1 - x0)) * (WIDTH - LEFT - RIGHT)
  const atY = (y: number) => HEIGHT - BOTTOM - ((Math.log10(y) - y0) / (y1 - y0)) * (HEIGHT - TOP - BOTTOM)
  const ticks = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => 10 ** (from + i))
  const text = (x: number, y: number, words: string, more = '') => `<text x="${x}" y="${y}" ${more}>${words}</text>`
  const grid = [
    ...ticks(x0, x1).map(
      (x) =>
        `${line(atX(x), TOP, atX(x), HEIGHT - BOTTOM)}${text(atX(x), HEIGHT - BOTTOM + 18, label(x), 'text-anchor="middle"')}`,
    ),
    ...ticks(y0, y1).map(
      (y) => `${line(LEFT, atY(y), WIDTH - RIGHT, atY(y))}${text(LEFT - 8, atY(y) + 4, label(y), 'text-anchor="end"')}`,
    ),
  ]
  const drawn = lines.map(({ name, points: of }, index) => {
    const colour = COLOURS[index % COLOURS.length] ?? '#000'
    const way = of.filter(([x, y]) => x > 0 && y > 0).map(([x, y]) => `${atX(x).toFixed(1)},${atY(y).toFixed(1)}`)
    const dots = way.map((at) => `<circle cx="${at.split(',')[0]}" cy="${at.split(',')[1]}" r="3" fill="${colour}"/>`)
    const key = text(WIDTH - RIGHT + 16, TOP + 16 + 20 * index, name, `fill="${colour}"`)
    return `<polyline points="${way.join(' ')}" fill="none" stroke="${colour}" stroke-width="2"/>${dots.join('')}${key}`
  })
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>`,
    text(LEFT, 24, title, 'font-size="15"'),
    ...grid,
    text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, axes.x, 'text-anchor="middle"'),
    text(LEFT, TOP - 10, axes.y),
    ...drawn,
    '</svg>\n',
  ].join('\n')
}

function line(x1: number, y1: number, x2: number, y2: number): string {
  return `<line x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}" stroke="#ddd"/>`
}

function label(value: number): string {
  return value >= 1 ? String(value) : value.toPrecision(1)
}
