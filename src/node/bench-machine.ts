import type { ModelEntry } from '../base/config.ts'
import { parseRecipe } from '../shard/recipe.ts'
import { surveyModel } from '../shard/survey.ts'
import type { Machine } from './detect.ts'
import { estimateSpeed } from './estimate.ts'
import { fitHere } from './fit-here.ts'
import { type Home, loadConfig, prepareHome } from './home.ts'
import { type MachineSpeed, measureSpeed } from './machine-speed.ts'
import { figuresOf } from './model-figures.ts'
import { bundledModel, modelName, openSource } from './model-source.ts'
import { detectShare } from './share.ts'

export interface RecipeSpeed extends Pick<MachineSpeed, 'measured' | 'layer'> {
  readonly recipe: ModelEntry['recipe']
  /** Estimated tokens per second of one answer with all layers here; null: they do not fit. */
  readonly solo: number | null
}

export interface MachineBench {
  readonly machine: Machine
  readonly model: string
  readonly nLayers: number
  readonly memoryBytesPerSecond: number
  readonly diskBytesPerSecond: number
  readonly recipes: readonly RecipeSpeed[]
}

const recipes: readonly ModelEntry['recipe'][] = ['i8', 'q4', 'q8', 'f32']

/** Measures with random weights in the shape of a model; nothing of it is fetched but its headers. Some seconds. */
export async function benchMachine(
  home: Home,
  { model, signal }: { model: string | undefined; signal: AbortSignal },
): Promise<MachineBench> {
  await prepareHome(home)
  const config = await loadConfig(home, { env: process.env })
  const source = await openSource(model ?? config.models[0]?.source ?? bundledModel())
  const survey = await surveyModel(source, { signal })
  const machine = await detectShare(home, config)
  const { nLayers } = survey.spec
  const request = { spec: survey.spec, cores: machine.cpu.cores, engine: config.engine, folder: home.modelsFolder }
  const speeds: MachineSpeed[] = []
  const found: RecipeSpeed[] = []
  for (const recipe of recipes) {
    signal.throwIfAborted()
    const speed = await measureSpeed({ ...request, recipe: parseRecipe(recipe) })
    speeds.push(speed)
    const figures = figuresOf(survey, parseRecipe(recipe))
    const { solo } = estimateSpeed({
      nLayers,
      fits: fitHere({ figures, spec: survey.spec, machine, ends: true }).layers,
      own: speed.layer.decodeMs,
      headShare: figures.ends.memoryBytes / figures.layer.packedBytes,
      span: null,
      holders: [],
    })
    found.push({ recipe, measured: speed.measured, layer: speed.layer, solo })
  }
  const best = (of: (speed: MachineSpeed) => number) => Math.max(...speeds.map(of))
  return {
    machine,
    model: modelName(source.id, survey.spec),
    nLayers,
    memoryBytesPerSecond: best((speed) => speed.memoryBytesPerSecond),
    diskBytesPerSecond: best((speed) => speed.diskBytesPerSecond),
    recipes: found,
  }
}
