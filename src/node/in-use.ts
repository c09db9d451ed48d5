import type { NodeParts } from './parts.ts'

/**
 * Whether anybody waits for a model here, or for any when none is named: a session of others that has stepped within
 * `quietMs`, or an answer of this node's own. A session that is quiet for longer belongs to a chat whose user reads: its
 * next turn takes another route.
 */
export function isInUse(
  { hops, generations }: Pick<NodeParts, 'hops' | 'generations'>,
  quietMs: number,
  only?: { readonly name: string; readonly modelIdHex: string },
): boolean {
  return (
    hops.sessions.some((session) => {
      return session.quietMs < quietMs && (only === undefined || session.modelId === only.modelIdHex)
    }) ||
    generations.list().some(({ model, state }) => {
      return (state === 'starting' || state === 'running') && (only === undefined || model === only.name)
    })
  )
}
