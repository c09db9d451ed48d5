import { checkAsk } from '../api/check-ask.ts'
import type { AskEvent, AskRequest } from '../api/types.ts'
import type { ModelEntry } from '../base/config.ts'
import { LlmNodeError } from '../base/errors.ts'
import { createLogger } from '../base/logger.ts'
import { parseSpan, spanLength } from '../base/span.ts'
import { answer, assertRequestFits } from './askables.ts'
import { loadConfig } from './home.ts'
import { loadModel } from './load-model.ts'
import type { NodeOptions } from './node.ts'

/**
 * One answer without a running node: alone with `solo`, otherwise as a node that takes part in the network as long as
 * the answer lasts and serves nothing. Throws what its parts throw.
 */
export async function* askOnce(
  options: NodeOptions,
  request: AskRequest,
  run: { signal: AbortSignal; onNotice(text: string): void },
): AsyncGenerator<AskEvent> {
  const checked = checkAsk(request)
  if (!checked.solo && checked.profile !== 'local-only') {
    yield* askAsGuest(options, request, run)
    return
  }
  const config = await loadConfig(options.home, options)
  const [first, ...others] = config.models.filter(
    (entry) => entry.ends && (!request.model || entry.name === request.model),
  )
  // Of one model in several recipes, what is held of it decides.
  const recipes = others.filter(({ name }) => name === first?.name)
  const entry = recipes.reduce((best, other) => (layersOf(other) > layersOf(best) ? other : best), first)
  const loaded = entry === undefined ? [] : [await loadModel(entry, options.home.modelsFolder, config)]
  try {
    const askables = loaded.flatMap((model) => (model.askable === undefined ? [] : [model.askable]))
    for (const note of loaded.flatMap(({ notes }) => notes)) run.onNotice(note)
    yield* answer(askables, checked, { signal: run.signal }, noSwarm, { profile: 'local-only' })
  } finally {
    await Promise.all(loaded.map((model) => model.close()))
  }
}

function layersOf(entry: ModelEntry | undefined): number {
  return entry?.layers == null ? 0 : spanLength(parseSpan(entry.layers))
}

/** Nothing beyond this process. */
const noSwarm = {
  holders: () => [],
  contact: () => Promise.reject(new LlmNodeError('INTERNAL', 'There is no swarm here.')),
  openRing: () => Promise.reject(new LlmNodeError('INTERNAL', 'There is no swarm here.')),
}

async function* askAsGuest(
  options: NodeOptions,
  request: AskRequest,
  { signal, onNotice }: { signal: AbortSignal; onNotice(text: string): void },
): AsyncGenerator<AskEvent> {
  // Loaded only here: alone needs no network.
  const { createNode } = await import('./node.ts')
  const node = await createNode(
    { ...options, guest: true, mesh: request.via === undefined },
    { logger: createLogger({ level: 'error' }) },
  )
  try {
    await node.start()
    const checked = checkAsk(request)
    const coverage = { signal, onNotice, profile: request.profile }
    // An answer that goes on waits for itself, and was checked when it began.
    if (checked.via !== undefined) onNotice(`Looking for ${checked.via} …`)
    else if (checked.resume !== undefined) await node.waitForCoverage(undefined, coverage).catch(() => {})
    else await node.waitForCoverage(request.model, { ...coverage, check: (model) => assertRequestFits(model, checked) })
    yield* node.control.ask(checked, signal)
  } finally {
    await node.stop()
  }
}
