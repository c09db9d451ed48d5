/** Every command that the documents for users show is one that the program understands. */
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { runCli } from './cli.ts'

const documents = ['guide', 'operations', 'troubleshooting'].map((name) =>
  fileURLToPath(new URL(`../../docs/${name}.md`, import.meta.url)),
)

const groups = ['id', 'bootstrap', 'contacts', 'network', 'keys']

interface Shown {
  readonly verb: string
  readonly flags: readonly string[]
}

async function shownCommands(): Promise<Shown[]> {
  const text = (await Promise.all(documents.map((path) => readFile(path, 'utf8')))).join('\n')
  const lines = [...text.matchAll(/^llm-node (.+)$|`llm-node ([^`]+)`/gm)].map(
    ([, block, inline]) => block ?? inline ?? '',
  )
  return lines.map((line) => {
    const words = line.replaceAll(/"[^"]*"/g, 'text').split(/\s+/)
    // "id protect": the flags belong to the second word.
    const verb = words.slice(0, groups.includes(words[0] ?? '') && /^[a-z]+$/.test(words[1] ?? '') ? 2 : 1).join(' ')
    return { verb, flags: words.filter((word) => /^--?[a-z]/.test(word)) }
  })
}

test('verbs and flags of the documents exist', async () => {
  const shown = await shownCommands()
  expect(shown.length).toBeGreaterThan(20)
  const verbs = [...new Set(shown.map(({ verb }) => verb))].filter((verb) => verb !== 'completion')
  const helps = await Promise.all(
    verbs.map(async (verb) => [verb, await runCli([...verb.split(' '), '--help'])] as const),
  )
  for (const [verb, { code, stdout }] of helps) {
    expect(code, verb).toBe(0)
    expect(stdout, verb).toContain(`llm-node ${verb}`)
    for (const { flags } of shown.filter((command) => command.verb === verb)) {
      for (const flag of flags) expect(stdout, `${verb} ${flag}`).toMatch(new RegExp(`(^|[\\s,])${flag}\\b`, 'm'))
    }
  }
})
