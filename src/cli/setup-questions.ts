import { cancel, confirm, intro, isCancel, log, select, text } from '@clack/prompts'
import { LlmNodeError } from '../base/errors.ts'
import { formatSpan, parseSpan } from '../base/span.ts'
import type { CatalogueModel } from '../node/catalogue.ts'
import type { Plan } from '../node/plan.ts'
import { describeDownload, describeFit, describeMemory, describeSwarm } from './plan-report.ts'

/** Questions 1 and 2: which network, which model. Throws ABORTED at Ctrl-C. */
export async function askModel(
  defaults: { network: string; bundled: string },
  catalogue: readonly CatalogueModel[],
): Promise<{ network: string; model: string }> {
  intro('llm-node setup')
  const network = await answered(
    text({
      message: 'Name of the network? Everybody who uses the same name meets.',
      initialValue: defaults.network,
      validate: (value) =>
        /^[a-z0-9][a-z0-9.-]{0,62}$/.test(value ?? '') ? undefined : 'Use 1 to 63 of a-z, 0-9, dot and dash.',
    }),
  )
  const other = 'other'
  const choice = await answered(
    select({
      message: 'Which model?',
      initialValue: defaults.bundled,
      options: [
        { value: defaults.bundled, label: 'demo-qwen3', hint: 'comes with the program, for trying things out' },
        ...catalogue.map(({ repository, nLayers, licence }) => ({
          value: repository,
          label: repository,
          hint: `${nLayers} layers, ${licence}`,
        })),
        { value: other, label: 'another one …', hint: 'repository, address or folder' },
      ],
    }),
  )
  if (choice !== other) return { network, model: choice }
  const model = await answered(
    text({
      message: 'Repository (Qwen/Qwen3-0.6B), address (https://…) or folder?',
      validate: (value) => (value?.trim() ? undefined : 'Name a model.'),
    }),
  )
  return { network, model }
}

/** Questions 3 to 5: which layers, the ends, go. `plan` knows machine and swarm. Throws ABORTED. */
export async function askLayers(plan: Plan): Promise<{ layers: string; ends: boolean }> {
  log.info(`Here ${describeFit(plan)}. Swarm: ${describeSwarm(plan)}.`)
  const { recommended } = plan
  const best = recommended === null ? null : formatSpan(recommended.span)
  const choice = await answered(
    select({
      message: 'Which layers?',
      initialValue: best ?? 'none',
      options: [
        ...(best === null || recommended === null
          ? []
          : [{ value: best, label: `layers ${best} (${describeDownload(recommended)})`, hint: recommended.reason }]),
        { value: 'other', label: 'other layers …' },
        { value: 'none', label: 'none', hint: 'only ask others' },
      ],
    }),
  )
  const layers = choice === 'other' ? await askSpan(plan) : choice
  const ends =
    layers === 'none' ||
    (await answered(
      confirm({ message: 'Hold embedding, head and tokenizer too, to ask questions yourself?', initialValue: true }),
    ))
  if (layers !== 'none') {
    const cost = plan.cost(parseSpan(layers))
    const go = await answered(
      confirm({ message: `Fetch ${describeDownload(cost)}? Memory: ${describeMemory(cost)}.`, initialValue: true }),
    )
    if (!go) throw new LlmNodeError('ABORTED', 'Nothing was fetched.')
  }
  return { layers, ends }
}

function askSpan({ nLayers }: Plan): Promise<string> {
  const validate = (value: string | undefined) => {
    try {
      return parseSpan(value ?? '').end <= nLayers ? undefined : `The last layer is ${nLayers - 1}.`
    } catch {
      return 'Write the first and the last layer, for example 4-7.'
    }
  }
  return answered(text({ message: `First and last layer, from 0 to ${nLayers - 1}?`, validate }))
}

/** The answer; Ctrl-C ends the set-up. */
async function answered<T>(question: Promise<T>): Promise<Exclude<T, symbol>> {
  const answer = await question
  if (!isCancel(answer)) return answer as Exclude<T, symbol>
  cancel('Stopped; what was fetched stays.')
  throw new LlmNodeError('ABORTED', 'Stopped on request.', { hint: 'Go on at any time with: llm-node setup' })
}
