/**
 * A name that this user gives to an address: letters and digits of any script, and a few signs inside. Never a text that
 * could be taken for an address itself.
 */
export function isPetname(text: string): boolean {
  return /^[\p{L}\p{N}](?:[\p{L}\p{M}\p{N} ._'-]{0,38}[\p{L}\p{M}\p{N}])?$/u.test(text) && !/\.llm$/i.test(text)
}

/** How a petname is compared: "Anna" and "anna" are one person. */
export function foldPetname(text: string): string {
  return text.normalize('NFKC').toLowerCase()
}

/** Letters that most fonts draw alike, small or capital, Cyrillic and Greek ones above all: what it is, what it looks like. */
const ALIKE = new Map(
  'аa еe оo рp сc хx уy јj ѕs һh ԁd ԛq ԝw вb кk мm нh тt αa εe οo ρp κk νv υu τt χx ηn βb μm 0o іl ιl ıl il 1l'
    .split(' ')
    .map((pair) => [pair.charAt(0), pair.charAt(1)] as const),
)

/**
 * What a petname looks like at a glance: two that are not equal and look the same are worth a warning, since an invite names
 * its sender. Without accents, blanks and signs, and with one letter for those that look alike.
 */
export function looksOfPetname(text: string): string {
  const bare = foldPetname(text)
    .normalize('NFKD')
    .replaceAll(/[\p{M} ._'-]/gu, '')
  return [...bare]
    .map((letter) => ALIKE.get(letter) ?? letter)
    .join('')
    .replaceAll('rn', 'm')
}
