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
