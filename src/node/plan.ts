import type { Config, ModelEntry } from '../base/config.ts'
import { downloadLimits, onionLimits } from '../base/limits.ts'
import { createLogger } from '../base/logger.ts'
import { type Span, spanLength } from '../base/span.ts'
import { type Assigned, type Assignment, chooseWindow, layerThroughput } from '../coverage/assign.ts'
import { diskFor, type Fit, type FitRequest, fitLayers, type MemoryShares, memoryFor } from '../coverage/fit.ts'
import { parseRecipe } from '../shard/recipe.ts'
import { type ModelSurvey, surveyModel } from '../shard/survey.ts'
import { defaultRecipe } from './default-recipe.ts'
import { detectMachine, type Machine } from './detect.ts'
import type { Home } from './home.ts'
import { kvTokensWanted, processBytes } from './memory-check.ts'
import { figuresOf, type ModelFigures } from './model-figures.ts'
import { modelName, openSource } from './model-source.ts'
import { reasonText } from './plan-words.ts'
import { lookAround, nobody, type SwarmGlance } from './swarm-glance.ts'

/** What a download is assumed to reach where nothing has been measured. */
const assumedBitsPerSecond = 50e6

export interface PlanOptions {
  /** As the user writes it: a repository, an http(s) folder, a folder. */
  readonly model: string
  /** Undefined: the one that the swarm uses for this model, otherwise the best for this processor. */
  readonly recipe?: ModelEntry['recipe'] | undefined
  /** Hold embedding, head and tokenizer too, so that this node can ask. */
  readonly ends: boolean
  /** Look at the swarm; otherwise plan as if alone. */
  readonly look: boolean
  readonly clientName?: string | undefined
  readonly signal: AbortSignal
}

/** What holding a span costs. Bytes. */
export interface SpanCost {
  readonly span: Span
  readonly downloadBytes: number
  readonly diskBytes: number
  readonly memory: MemoryShares
  /** At an assumed 50 Mbit/s; 0 for a folder on this machine. */
  readonly minutes: number
}

export interface Plan {
  readonly name: string
  readonly source: string
  readonly modelId: string
  readonly recipe: ModelEntry['recipe']
  readonly nLayers: number
  readonly machine: Machine
  readonly fit: Fit
  /** Null: nothing fits. */
  readonly recommended: (SpanCost & { readonly assignment: Assignment; readonly reason: string }) | null
  readonly swarm: { readonly peers: number; readonly holders: number; readonly gaps: readonly Span[] }
  /** What any span would cost. */
  cost(span: Span): SpanCost
}

export interface PlanDeps {
  detect(folder: string): Promise<Machine>
  look(home: Home, config: Config, modelId: string, signal: AbortSignal): Promise<SwarmGlance>
}

const realDeps: PlanDeps = {
  detect: (folder) => detectMachine({ folder }),
  look: (home, config, modelId, signal) =>
    lookAround(home, config, modelId, { signal, logger: createLogger({ level: 'silent' }) }),
}

/**
 * What this node could hold of a model, and what would help most. Reads the headers of the model's files and asks the
 * swarm; loads nothing. Throws what the source and the swarm throw.
 */
export async function makePlan(
  home: Home,
  config: Config,
  options: PlanOptions,
  deps: PlanDeps = realDeps,
): Promise<Plan> {
  const source = await openSource(options.model, options.clientName)
  const survey = await surveyModel(source, { signal: options.signal })
  const [machine, glance] = await Promise.all([
    deps.detect(home.modelsFolder),
    options.look ? deps.look(home, config, survey.modelId, options.signal) : nobody,
  ])
  const recipe = options.recipe ?? (await recipeFor(glance, survey))
  return planFor({ survey, machine, glance, recipe, ends: options.ends, sourceId: source.id })
}

interface PlanFacts {
  readonly survey: ModelSurvey
  readonly machine: Machine
  readonly glance: SwarmGlance
  readonly recipe: ModelEntry['recipe']
  readonly ends: boolean
  readonly sourceId: string
}

/** Pure. */
export function planFor({ survey, machine, glance, recipe, ends, sourceId }: PlanFacts): Plan {
  const { nLayers } = survey.spec
  const figures = figuresOf(survey, parseRecipe(recipe))
  const request = fitRequest(figures, survey, machine, ends)
  const fit = fitLayers(request)
  const holders = glance.holders.get(parseRecipe(recipe)) ?? []
  const name = modelName(sourceId)
  const local = !/^https?:|^[\w-][\w.-]*\/[\w-][\w.-]*@/.test(sourceId)
  const cost = (span: Span) => costOf(span, figures, request, local)
  const assignment =
    fit.layers === 0 ? null : chooseWindow(holders, fit.layers, { nLayers, maxHops: onionLimits.computeHops })
  return {
    name,
    source: sourceId,
    modelId: survey.modelId,
    recipe,
    nLayers,
    machine,
    fit,
    recommended:
      assignment === null
        ? null
        : { ...cost(assignment.span), assignment, reason: reasonText(assignment, { name, peers: glance.peers }) },
    swarm: { peers: glance.peers, holders: holders.length, gaps: gapsOf(holders, nLayers) },
    cost,
  }
}

function fitRequest(figures: ModelFigures, survey: ModelSurvey, machine: Machine, ends: boolean): FitRequest {
  const { packedBytes, memoryBytes } = figures.ends
  return {
    nLayers: survey.spec.nLayers,
    layer: figures.layer,
    ends: ends ? { memoryBytes, diskBytes: packedBytes } : null,
    kvTokens: kvTokensWanted(survey.spec),
    processBytes,
    memoryBytes: machine.memory.totalBytes,
    diskBytes: Math.max(0, (machine.disk?.freeBytes ?? Number.POSITIVE_INFINITY) - downloadLimits.diskSpareBytes),
  }
}

function costOf(span: Span, figures: ModelFigures, request: FitRequest, local: boolean): SpanCost {
  const layers = figures.layers.slice(span.start, span.end)
  const endsBytes = request.ends === null ? 0 : figures.ends.rawBytes
  const downloadBytes = layers.reduce((sum, { rawBytes }) => sum + rawBytes, endsBytes)
  return {
    span,
    downloadBytes,
    diskBytes: diskFor(spanLength(span), request),
    memory: memoryFor(spanLength(span), request),
    minutes: local ? 0 : (downloadBytes * 8) / assumedBitsPerSecond / 60,
  }
}

/** One pipeline uses one recipe: the one of which the swarm holds most layers, otherwise the best for this processor. */
async function recipeFor(glance: SwarmGlance, survey: ModelSurvey): Promise<ModelEntry['recipe']> {
  const { nLayers } = survey.spec
  const held = (peers: readonly Assigned[]) => layerThroughput(peers, nLayers).filter((value) => value > 0).length
  const [most] = [...glance.holders].sort(([, a], [, b]) => held(b) - held(a) || b.length - a.length)
  const name = most?.[0].split('/')[0]
  return name === 'i8' || name === 'q4' || name === 'q8' || name === 'f32' ? name : defaultRecipe()
}

function gapsOf(holders: readonly Assigned[], nLayers: number): Span[] {
  const gaps: { start: number; end: number }[] = []
  for (const [layer, value] of layerThroughput(holders, nLayers).entries()) {
    if (value > 0) continue
    const last = gaps.at(-1)
    if (last?.end === layer) last.end++
    else gaps.push({ start: layer, end: layer + 1 })
  }
  return gaps
}
