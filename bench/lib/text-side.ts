import { readFileSync } from 'node:fs'
import { createTextModel, type TextModel } from '../../src/pipeline/text-model.ts'
import { downloadModel } from '../../src/shard/download.ts'
import { createModelEnds, type ModelEnds } from '../../src/shard/ends.ts'
import { createFolderSource } from '../../src/shard/folder-source.ts'
import type { RecipeId } from '../../src/shard/recipe.ts'

/** Ends and tokenizer of a stock repository folder. */
export async function openTextSide(
  model: string,
  folder: string,
  recipe: RecipeId,
): Promise<{ ends: ModelEnds; text: TextModel }> {
  const holding = await downloadModel({ source: createFolderSource(model), folder, recipe, span: null, ends: true })
  const json = (name: string): unknown => {
    const path = holding.files.get(name)
    return path === undefined ? undefined : JSON.parse(readFileSync(path, 'utf8'))
  }
  const text = createTextModel({
    config: json('config.json'),
    tokenizerJson: json('tokenizer.json'),
    tokenizerConfig: json('tokenizer_config.json'),
    generationConfig: json('generation_config.json'),
  })
  if (holding.endsPath === null) throw new Error('no ends')
  const ends = await createModelEnds({ spec: holding.spec, recipe, endsFile: holding.endsPath, threads: 1 })
  return { ends, text }
}
