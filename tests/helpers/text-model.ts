import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TextFiles } from '../../src/pipeline/text-model.ts'

/** The files of a repository folder that a text model is made of. */
export function demoTextModel(folder: string): TextFiles {
  const json = (name: string): unknown => {
    const path = join(folder, name)
    return existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : undefined
  }
  const jinja = join(folder, 'chat_template.jinja')
  return {
    config: json('config.json'),
    tokenizerJson: json('tokenizer.json'),
    tokenizerConfig: json('tokenizer_config.json'),
    generationConfig: json('generation_config.json'),
    jinjaFile: existsSync(jinja) ? readFileSync(jinja, 'utf8') : undefined,
  }
}
