import { access } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { LlmNodeError } from '../base/errors.ts'
import { createFolderSource } from './folder-source.ts'
import { createHuggingFaceSource, createWebFolderSource } from './http-source.ts'
import type { ModelSource } from './source.ts'

export interface OpenSourceOptions {
  /** Address of the Hugging Face server or a mirror. */
  readonly endpoint?: string
  readonly token?: string
  /** Sent as `x-llm-node-client` when set. */
  readonly clientName?: string
}

/**
 * What a user writes as a model: a folder ("./models/x", "/data/x", "file:///data/x"), an address
 * ("https://host/folder/"), or a Hugging Face repository ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B@revision"). A folder that
 * exists and holds a config.json comes before a repository of the same name. Throws BAD_INPUT.
 */
export async function openModelSource(text: string, options: OpenSourceOptions = {}): Promise<ModelSource> {
  const { endpoint = 'https://huggingface.co', token, clientName } = options
  const http = { ...(token === undefined ? {} : { token }), ...(clientName === undefined ? {} : { clientName }) }
  if (/^https?:\/\//.test(text)) {
    if (!URL.canParse(text)) throw unreadable(text)
    return createWebFolderSource({ ...http, base: text })
  }
  if (text.startsWith('file://')) return createFolderSource(fileURLToPath(text))
  if (/^(\.{0,2}\/|[a-z]:\\)/i.test(text) || (await isModelFolder(text))) return createFolderSource(resolve(text))
  const match = /^([\w-][\w.-]*\/[\w-][\w.-]*)(?:@([\w.\-/]+))?$/.exec(text)
  if (!match?.[1]) throw unreadable(text)
  return createHuggingFaceSource({ ...http, repo: match[1], revision: match[2] ?? 'main', endpoint })
}

async function isModelFolder(path: string): Promise<boolean> {
  return access(join(path, 'config.json')).then(
    () => true,
    () => false,
  )
}

function unreadable(text: string): LlmNodeError {
  return new LlmNodeError('BAD_INPUT', `"${text}" does not name a model.`, {
    hint: 'Write a repository (Qwen/Qwen3-0.6B), an address (https://…) or a folder (./models/demo-qwen3).',
  })
}
