import { createHash } from 'node:crypto'
import { coverageLimits } from '../base/limits.ts'
import type { Profile } from '../coverage/path.ts'

/** A chat is known by who asks and how it begins. */
export interface Chat {
  readonly owner: string
  readonly firstIds: readonly number[]
}

/** With which profile chats under `auto` began: their next turns have it, too, with or without relays. */
export interface ChatProfiles {
  of(chat: Chat): Profile | undefined
  note(chat: Chat, profile: Profile): void
}

/** Keeps digests, not texts; the longest unused one is forgotten first. */
export function createChatProfiles(): ChatProfiles {
  const profiles = new Map<string, Profile>()
  const keep = (key: string, profile: Profile) => {
    profiles.delete(key)
    profiles.set(key, profile)
    for (const oldest of profiles.keys()) {
      if (profiles.size <= coverageLimits.chatProfiles) break
      profiles.delete(oldest)
    }
  }
  return {
    of(chat) {
      const key = keyOf(chat)
      const profile = profiles.get(key)
      if (profile !== undefined) keep(key, profile)
      return profile
    },
    note: (chat, profile) => keep(keyOf(chat), profile),
  }
}

function keyOf({ owner, firstIds }: Chat): string {
  return createHash('sha256')
    .update(JSON.stringify([owner, firstIds]))
    .digest('base64')
}
