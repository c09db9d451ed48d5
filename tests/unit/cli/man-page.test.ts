import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { exampleOf } from '../../../src/cli/examples.ts'
import { manPage } from '../../../src/cli/man-page.ts'
import { createProgram, verbs } from '../../../src/cli/program.ts'

describe('man/llm-node.1', () => {
  it('is what scripts/man-page.mjs writes', async () => {
    const path = new URL('../../../man/llm-node.1', import.meta.url)
    expect(readFileSync(path, 'utf8') === (await manPage()), 'run: node scripts/man-page.mjs').toBe(true)
  })

  it('has every verb with its flags, and no line that roff would take for a request of ours', async () => {
    const page = await manPage()
    for (const verb of verbs) expect(page).toContain(`\n.SS ${verb}\n`)
    expect(page).toContain('\\-\\-first\\-token\\-ms')
    const requests = new Set(page.split('\n').flatMap((line) => /^[.'][A-Za-z]*/.exec(line) ?? []))
    expect([...requests].sort()).toEqual(['.', '.B', '.I', '.PP', '.SH', '.SS', '.TH', '.TP', '.fi', '.nf'])
  })
})

it.each(verbs)('the example of %s is a use of it', async (verb) => {
  const [command] = exampleOf(verb)
  expect(command.split(' ')[1]).toBe(verb)
  const help = await createProgram([verb], { width: 200 }).getHelp()
  expect(help).toContain(command.replace('$0', 'llm-node'))
  // Its flags exist.
  for (const flag of command.match(/--[a-z-]+/g) ?? []) {
    const verbs = command
      .split(' ')
      .slice(1, 3)
      .filter((word) => /^[a-z]+$/.test(word))
    const own = await createProgram(verbs, { width: 200 }).getHelp()
    expect(`${help} ${own}`, flag).toContain(flag)
  }
})
