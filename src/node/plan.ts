import type { Config, ModelEntry } from '../base/config.ts'
import { onionLimits } from '../base/limits.ts'
import { createLogger } from '../base/logger.ts'
import { type Span, spanLength } from '../base/span.ts'
import { type Assigned, type Assignment, chooseWindow, layerThroughput } from '../coverage/assign.ts'
import { diskFor, type Fit, type FitRequest, fitLayers, type MemoryShares, memoryFor } from '../coverage/fit.ts'
import { type LayerHolder, mapCoverage } from '../coverage/map.ts'
import type { SpeedEstimate } from '../pipeline/experience.ts'
import { parseRecipe } from '../shard/recipe.ts'
import { type ModelSurvey, surveyModel } from '../shard/survey.ts'
import { defaultRecipe } from './default-recipe.ts'
import type { Machine } from './detect.ts'
import { estimateSpeed } from './estimate.ts'
import { fitRequest } from './fit-here.ts'
import { type Home, prepareHome } from './home.ts'
import { isRemote, type MachineSpeed, measureDownload, measureSpeed, type SpeedRequest } from './machine-speed.ts'
import { figuresOf, type ModelFigures } from './model-figures.ts'
import { modelName, openSource } from './model-source.ts'
import { reasonText } from './plan-words.ts'
import { detectShare } from './share.ts'
import { assignedOf, lookAround, nobody, type SwarmGlance } from './swarm-glance.ts'

/** What a download is assumed to reach where its source has not been listened to. */
const assumedBytesPerSecond = 50e6 / 8

export interface PlanOptions {
  /** As the user writes it: a repository, an http(s) folder, a folder. */
  readonly model: string
  /** Undefined: the one that the swarm uses for this model, otherwise the best for this processor. */
  readonly recipe?: ModelEntry['recipe'] | undefined
  /** Hold embedding, head and tokenizer too, so that this node can ask. */
  readonly ends: boolean
  /** Look at the swarm; otherwise plan as if alone. */
  readonly look: boolean
  /** Measure this machine and the source's speed; otherwise plan by sizes alone. */
  readonly measure: boolean
  readonly clientName?: string | undefined
  readonly signal: AbortSignal
}

/** What holding a span costs. Bytes. */
export interface SpanCost {
  readonly span: Span
  readonly downloadBytes: number
  readonly diskBytes: number
  readonly memory: MemoryShares
  /** At the source's measured speed, or an assumed 50 Mbit/s; 0 for a folder on this machine. */
  readonly minutes: number
}

export interface Plan {
  readonly name: string
  readonly source: string
  readonly modelId: string
  readonly recipe: ModelEntry['recipe']
  readonly nLayers: number
  readonly machine: Machine
  /** Null: not measured. */
  readonly speed: PlanSpeed | null
  readonly estimate: SpeedEstimate
  readonly fit: Fit
  /** Null: nothing fits. */
  readonly recommended: (SpanCost & { readonly assignment: Assignment; readonly reason: string }) | null
  readonly swarm: {
    readonly peers: number
    readonly holders: number
    readonly gaps: readonly Span[]
    readonly replicas: readonly number[]
  }
  /** What any span would cost. */
  cost(span: Span): SpanCost
}

export interface PlanSpeed extends MachineSpeed {
  /** Null: from a folder here, or too little to be worth listening to. */
  readonly downloadBytesPerSecond: number | null
}

export interface PlanDeps {
  detect(home: Home, config: Config): Promise<Machine>
  measure(request: SpeedRequest): Promise<MachineSpeed>
  look(home: Home, config: Config, modelId: string, signal: AbortSignal): Promise<SwarmGlance>
}

export const planDeps: PlanDeps = {
  detect: detectShare,
  measure: measureSpeed,
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
  deps: PlanDeps = planDeps,
): Promise<Plan> {
  const { signal } = options
  await prepareHome(home)
  const source = await openSource(options.model, { clientName: options.clientName, share: config.share })
  const survey = await surveyModel(source, { signal })
  const [machine, glance, downloadBytesPerSecond] = await Promise.all([
    deps.detect(home, config),
    options.look ? deps.look(home, config, survey.modelId, signal) : nobody,
    options.measure ? measureDownload(survey, source, signal) : null,
  ])
  const recipe = options.recipe ?? (await recipeFor(glance, survey, config))
  const engine = { cores: machine.cpu.cores, engine: config.engine, folder: home.modelsFolder }
  const measured = options.measure
    ? await deps.measure({ spec: survey.spec, recipe: parseRecipe(recipe), ...engine })
    : null
  const speed = measured && { ...measured, downloadBytesPerSecond }
  return planFor({ survey, machine, glance, recipe, ends: options.ends, sourceId: source.id, speed })
}

interface PlanFacts {
  readonly survey: ModelSurvey
  readonly machine: Machine
  readonly glance: SwarmGlance
  readonly recipe: ModelEntry['recipe']
  readonly ends: boolean
  readonly sourceId: string
  readonly speed: PlanSpeed | null
}

/** Pure. */
export function planFor(facts: PlanFacts): Plan {
  const { survey, machine, glance, recipe, ends, sourceId, speed } = facts
  const { nLayers } = survey.spec
  const figures = figuresOf(survey, parseRecipe(recipe))
  const request = fitRequest({ figures, spec: survey.spec, machine, ends })
  const fit = fitLayers(request)
  const layerHolders = glance.holders.get(parseRecipe(recipe)) ?? []
  const holders = assignedOf(layerHolders)
  const name = modelName(sourceId, survey.spec)
  const bytesPerSecond = isRemote(sourceId)
    ? (speed?.downloadBytesPerSecond ?? assumedBytesPerSecond)
    : Number.POSITIVE_INFINITY
  const cost = (span: Span) => costOf(span, figures, request, bytesPerSecond)
  const assignment =
    fit.layers === 0 ? null : chooseWindow(holders, fit.layers, { nLayers, maxHops: onionLimits.computeHops })
  return {
    name,
    source: sourceId,
    modelId: survey.modelId,
    recipe,
    nLayers,
    machine,
    speed,
    estimate: estimateSpeed({
      nLayers,
      fits: fit.layers,
      own: speed?.layer.decodeMs ?? null,
      headShare: figures.ends.memoryBytes / figures.layer.packedBytes,
      span: assignment?.span ?? null,
      holders: layerHolders,
    }),
    fit,
    recommended:
      assignment === null
        ? null
        : { ...cost(assignment.span), assignment, reason: reasonText(assignment, { name, peers: glance.peers }) },
    swarm: {
      peers: glance.peers,
      holders: holders.length,
      gaps: gapsOf(holders, nLayers),
      replicas: Array.from(
        { length: nLayers },
        (_, layer) => holders.filter(({ span }) => holdsLayer(span, layer)).length,
      ),
    },
    cost,
  }
}

function costOf(span: Span, figures: ModelFigures, request: FitRequest, bytesPerSecond: number): SpanCost {
  const layers = figures.layers.slice(span.start, span.end)
  const endsBytes = request.ends === null ? 0 : figures.ends.rawBytes
  const downloadBytes = layers.reduce((sum, { rawBytes }) => sum + rawBytes, endsBytes)
  return {
    span,
    downloadBytes,
    diskBytes: diskFor(spanLength(span), request),
    memory: memoryFor(spanLength(span), request),
    minutes: downloadBytes / bytesPerSecond / 60,
  }
}

/** One pipeline uses one recipe: the one of which the swarm holds most layers, otherwise the best for what computes. */
async function recipeFor(
  glance: SwarmGlance,
  survey: ModelSurvey,
  { engine }: Pick<Config, 'engine'>,
): Promise<ModelEntry['recipe']> {
  const { nLayers } = survey.spec
  const held = (peers: readonly LayerHolder[]) =>
    mapCoverage(peers, nLayers).replicas.filter((count) => count > 0).length
  const [most] = [...glance.holders].sort(([, a], [, b]) => held(b) - held(a) || b.length - a.length)
  const name = most?.[0].split('/')[0]
  return name === 'i8' || name === 'q4' || name === 'q8' || name === 'f32' ? name : defaultRecipe(engine.provider)
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

function holdsLayer({ start, end }: Span, layer: number): boolean {
  return start <= layer && layer < end
}
