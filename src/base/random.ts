/** xorshift32: 32 random bits a call, fixed by the seed (not 0). For samples and simulations, never for secrets. */
export function createRandom(seed: number): () => number {
  let state = seed
  return () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return state >>> 0
  }
}

/** The same values in another order. `random`: in [0, 1). */
export function shuffle<T>(values: readonly T[], random: () => number): T[] {
  const pool = [...values]
  return values.flatMap(() => pool.splice(Math.floor(random() * pool.length), 1))
}
