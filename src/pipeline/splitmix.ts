const GAMMA = 0x9e3779b97f4a7c15n
const mix = (z: bigint, shift: bigint, factor: bigint) => BigInt.asUintN(64, (z ^ (z >> shift)) * factor)

/**
 * Output `index` (from 0) of the splitmix64 sequence that `seed` starts, without computing the ones before: the state is
 * a plain counter. Source: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators" (OOPSLA 2014), with the
 * constants of Vigna's reference code.
 */
export function splitmix64(seed: bigint, index: number): bigint {
  const state = BigInt.asUintN(64, seed + BigInt(index + 1) * GAMMA)
  const mixed = mix(mix(state, 30n, 0xbf58476d1ce4e5b9n), 27n, 0x94d049bb133111ebn)
  return mixed ^ (mixed >> 31n)
}

/** The one draw of token `index`: a multiple of 2^-53 in [0, 1), from (seed, index) alone (engine.md §9). */
export function uniformAt(seed: number, index: number): number {
  return Number(splitmix64(BigInt(seed), index) >> 11n) * 2 ** -53
}
