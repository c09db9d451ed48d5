/** A real Chromium for the tests of the pages. */
import { existsSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core'
import type { Cleanup } from '../integration/p2p-helpers.ts'

const executable = process.env.CHROMIUM ?? '/usr/bin/chromium'
export const hasChromium = existsSync(executable)
if (!hasChromium) process.stderr.write(`tests/web is skipped: there is no ${executable} (set CHROMIUM).\n`)

/** Kept and looked at by people. */
const artefacts = fileURLToPath(new URL('../.artefacts/', import.meta.url))

const quiet = [
  ...['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run'],
  ...['--disable-background-networking', '--disable-component-update', '--disable-sync'],
]

export const phone = { width: 390, height: 844 }
const desktop = { width: 1280, height: 900 }

export interface TestPage extends Page {
  /** What the console and the page complained about, and requests that went elsewhere. */
  readonly complaints: string[]
}

export interface TestBrowser {
  open(url: string, options?: BrowserContextOptions): Promise<TestPage>
}

export async function startBrowser(cleanup: Cleanup): Promise<TestBrowser> {
  const browser: Browser = await chromium.launch({ executablePath: executable, args: quiet })
  cleanup.add(() => browser.close())
  return {
    async open(url, options = {}) {
      const context = await browser.newContext({ viewport: desktop, ...options })
      const page = Object.assign(await context.newPage(), { complaints: [] as string[] })
      page.on('console', (message) => {
        if (['error', 'warning'].includes(message.type())) page.complaints.push(message.text())
      })
      page.on('pageerror', (error) => page.complaints.push(error.message))
      page.on('request', (request) => {
        const { protocol, hostname } = new URL(request.url())
        if (protocol !== 'data:' && hostname !== '127.0.0.1') page.complaints.push(`asked for ${request.url()}`)
      })
      page.setDefaultTimeout(30_000)
      await page.goto(url)
      return page
    },
  }
}

export async function keepScreenshot(page: Page, name: string): Promise<void> {
  await mkdir(artefacts, { recursive: true })
  await page.screenshot({ path: `${artefacts}${name}.png`, fullPage: true })
}

/** Nothing may stick out to the right: people on phones would have to push the page about. */
export async function overflowOf(page: Page): Promise<number> {
  return page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)
}
