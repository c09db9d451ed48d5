/** `setup --web` and `demo --web`: real processes, from the first page to the chat, and a node killed in mid-answer. */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type CliProcess, runCli, spawnCli } from '../e2e/cli.ts'
import { startApiNode } from '../integration/api-helpers.ts'
import { createCleanup, temporaryFolder } from '../integration/p2p-helpers.ts'
import { seriousIssues } from './axe.ts'
import { hasChromium, keepScreenshot, startBrowser, type TestBrowser } from './browser.ts'

const cleanup = createCleanup()
let browser: TestBrowser

async function urlOf(process: CliProcess): Promise<string> {
  cleanup.add(async () => {
    process.kill('SIGINT')
    await process.ended
  })
  await process.seen('#token=')
  return /http:\S+/.exec(process.stdout)?.[0] ?? ''
}

describe.skipIf(!hasChromium)('commands with a page', () => {
  beforeAll(async () => {
    browser = await startBrowser(cleanup)
  })
  afterAll(() => cleanup.run())

  it('set a home up: the nodes nearby, the gap, the download, the test, the start, the first chat', async () => {
    const other = await startApiNode(cleanup, { layers: '0-7', ends: false })
    const home = join(await temporaryFolder(cleanup), 'home')
    const network = { name: 'api-test', mdns: false, host: '127.0.0.1', port: 0, bootstrap: other.listening }
    await mkdir(home)
    await writeFile(join(home, 'config.json'), JSON.stringify({ version: 1, network, api: { port: 0 } }))
    const url = await urlOf(spawnCli(['setup', '--web', '--home', home, '--recipe', 'i8']))
    const page = await browser.open(url, { reducedMotion: 'reduce' })
    const problems: string[] = []
    const look = async (name: string) => {
      problems.push(...(await seriousIssues(page)).map((issue) => `${name}: ${issue}`))
      await keepScreenshot(page, `wizard-${name}`)
    }
    const press = (name: string) => page.getByRole('button', { name }).click()
    await page.getByRole('button', { name: 'Let’s go' }).waitFor()
    await look('1-machine')
    await press('Let’s go')
    await press('Look around')
    await page.getByText('1 node found').waitFor()
    await page.getByText('holds layers 0-7').waitFor()
    await look('2-network')
    await press('Next')
    await look('3-model')
    await press('Plan')
    await page.getByText('Recommended: layers').waitFor()
    await look('4-layers')
    await page.getByText('My own choice').click()
    await page.getByLabel('First layer').fill('8')
    await page.getByLabel('First layer').blur()
    await press('Fetch them')
    await page.getByRole('heading', { name: 'Your node runs' }).waitFor({ timeout: 90_000 })
    await look('5-done')
    await page.getByRole('link', { name: 'Start the first chat' }).click()
    await page.getByRole('button', { name: 'Where does the fox live?' }).click()
    await page.locator('.message-model:is([data-finish="stop"], [data-finish="length"])').waitFor()
    await page.getByText('exact', { exact: true }).waitFor()
    expect(problems).toEqual([])
    expect(page.complaints).toEqual([])
    expect(page.url()).not.toContain('token')
    const shown = JSON.parse((await runCli(['web', '--home', home, '--json'])).stdout)
    expect(shown).toMatchObject({ schema: 'llm-node/web/1', url: expect.stringMatching(/\/#token=[0-9a-f]{48}$/) })
    const config = JSON.parse(await readFile(join(home, 'config.json'), 'utf8'))
    expect(config.models).toMatchObject([{ name: 'demo-qwen3', layers: '8-11', ends: true }])
  })

  it('show the demo: the map fills, a node is killed in mid-answer, the same text comes out', async () => {
    const page = await browser.open(await urlOf(spawnCli(['demo', '--web', '--recipe', 'i8'])))
    await page.locator('.demo-running').first().waitFor({ timeout: 90_000 })
    await page.getByText(/hold.? a part of demo-qwen3/).waitFor()
    await keepScreenshot(page, 'demo-1-filling')
    await page.getByText('Every layer is held twice').waitFor({ timeout: 90_000 })
    await keepScreenshot(page, 'demo-2-full')
    await page.evaluate(() => {
      location.hash = '#/pipeline'
    })
    await page.getByRole('button', { name: 'Ask, and watch' }).click()
    await page
      .locator('.demo-answer')
      .getByText(/.{200}/)
      .waitFor()
    await page.locator('.route-running').waitFor()
    await page.locator('.demo-computing').getByRole('button').nth(1).click()
    await page.locator('.demo-killed').waitFor()
    await page
      .getByText(/The answer moved to another node and went on/)
      .first()
      .waitFor()
    await keepScreenshot(page, 'demo-3-killed')
    await page.getByText('the same text, byte for byte').waitFor({ timeout: 90_000 })
    await page.getByRole('button', { name: /^Start .* again$/ }).click()
    await page.locator('.demo-running').nth(5).waitFor({ timeout: 90_000 })
    expect(page.complaints).toEqual([])
  })
})
