import { join } from 'node:path'
import { z } from 'zod'
import { LlmNodeError } from '../base/errors.ts'
import { writeFileAtomic } from '../base/files.ts'
import { p2pLimits } from '../base/limits.ts'
import {
  type AddressHint,
  encodeAddress,
  formatAddressUri,
  isAddress,
  parseAddressUri,
  safetyNumber,
} from '../p2p/address.ts'
import { foldPetname, isPetname, looksOfPetname } from '../p2p/petname.ts'
import { type Home, readIfPresent } from './home.ts'

const contactSchema = z.strictObject({
  petname: z.string().refine(isPetname),
  address: z.string().refine(isAddress),
  /** Multiaddrs where it was reachable. */
  addrs: z.array(z.string().max(512)).max(p2pLimits.addressesPerPeer),
  addedMs: z.int().nonnegative(),
  /** The safety numbers were compared. */
  verified: z.boolean(),
})
const contactFile = z.strictObject({ version: z.literal(1), contacts: z.array(contactSchema).max(p2pLimits.contacts) })

export type Contact = z.infer<typeof contactSchema>

export interface Target extends AddressHint {
  readonly petname: string | null
  /** With all hints known, for the running node. */
  readonly uri: string
}

export interface AddedContact {
  readonly contact: Contact
  readonly safetyNumber: string
  /** To be shown loudly. */
  readonly warnings: readonly string[]
}

/**
 * Trust on first use: the first address of a petname is believed. Another one for the same petname is refused with
 * CONTACT_CHANGED unless `replace`; one that looks like a known one is taken with a warning.
 */
export async function addContact(
  home: Home,
  added: { petname: string; addressKey: Uint8Array; addrs: readonly string[]; replace?: boolean },
): Promise<AddedContact> {
  const { petname, replace = false } = added
  if (!isPetname(petname)) {
    throw new LlmNodeError('BAD_INPUT', `${JSON.stringify(petname.slice(0, 60))} is no petname.`, {
      hint: 'Use up to 40 letters and digits, with blanks, dots, dashes inside.',
    })
  }
  const address = encodeAddress(added.addressKey)
  const contacts = await listContacts(home)
  const sameName = contacts.find((contact) => isNamed(contact, petname))
  const warnings: string[] = []
  if (sameName !== undefined && sameName.address !== address) {
    if (!replace) throw changed(sameName, address)
    warnings.push(`The address of ${sameName.petname} was ${sameName.address} until now.`)
  }
  const sameAddress = contacts.find((contact) => contact.address === address)
  if (sameAddress !== undefined && sameAddress !== sameName) {
    throw new LlmNodeError('BAD_INPUT', `This address is already known as ${sameAddress.petname}.`, {
      hint: `Remove that petname first: llm-node contacts rm ${JSON.stringify(sameAddress.petname)}`,
    })
  }
  for (const other of contacts.filter((contact) => contact !== sameName && looksAlike(contact.address, address))) {
    warnings.push(
      `This address looks like the one of ${other.petname} (${other.address}), and is another one. Compare every character.`,
    )
  }
  const looks = looksOfPetname(petname)
  for (const other of contacts.filter((contact) => contact !== sameName && contact.address !== address)) {
    if (looksOfPetname(other.petname) !== looks) continue
    warnings.push(`${petname} looks like ${other.petname}, a contact of yours, and is somebody else: ${address}.`)
  }
  const contact: Contact = {
    petname: sameAddress?.petname ?? petname,
    address,
    addrs: [...new Set([...added.addrs, ...(sameAddress?.addrs ?? [])])].slice(0, p2pLimits.addressesPerPeer),
    addedMs: sameAddress?.addedMs ?? Date.now(),
    verified: sameAddress?.verified ?? false,
  }
  await saveContacts(home, [...contacts.filter((each) => each !== sameName), contact])
  return { contact, safetyNumber: safetyNumber(added.addressKey), warnings }
}

/** In the order of their names. Throws HOME_UNUSABLE. */
export async function listContacts(home: Home): Promise<Contact[]> {
  const text = await readIfPresent(pathOf(home))
  if (text === undefined) return []
  try {
    return contactFile.parse(JSON.parse(text)).contacts.sort((a, b) => a.petname.localeCompare(b.petname, 'en'))
  } catch (cause) {
    // Never replaced by an empty list: whom this user trusts would be forgotten without a word.
    throw new LlmNodeError('HOME_UNUSABLE', `${pathOf(home)} is damaged.`, {
      hint: 'Restore it from a backup, or remove it and add the contacts again.',
      cause,
    })
  }
}

/** By petname or address. Throws BAD_INPUT when there is none. */
export async function getContact(home: Home, nameOrAddress: string): Promise<Contact> {
  const wanted = nameOrAddress.trim()
  const contacts = await listContacts(home)
  const found = contacts.find((each) => isNamed(each, wanted) || each.address === wanted.toLowerCase())
  if (found !== undefined) return found
  throw new LlmNodeError('BAD_INPUT', `There is no contact ${JSON.stringify(wanted.slice(0, 80))}.`, {
    hint: 'See them with: llm-node contacts ls',
  })
}

export async function removeContact(home: Home, nameOrAddress: string): Promise<Contact> {
  const gone = await getContact(home, nameOrAddress)
  const contacts = await listContacts(home)
  await saveContacts(
    home,
    contacts.filter(({ address }) => address !== gone.address),
  )
  return gone
}

/** Remembers that the safety numbers were compared and agree. */
export async function markVerified(home: Home, nameOrAddress: string): Promise<Contact> {
  const contact = { ...(await getContact(home, nameOrAddress)), verified: true }
  const contacts = await listContacts(home)
  await saveContacts(home, [...contacts.filter(({ address }) => address !== contact.address), contact])
  return contact
}

/** What a user writes to name somebody: a petname, an address, or `llm://ADDR?a=…`. Throws BAD_ADDRESS, BAD_INPUT. */
export async function parseTarget(home: Home, text: string): Promise<Target> {
  const contacts = await listContacts(home)
  const named = contacts.find((contact) => isNamed(contact, text))
  if (named === undefined && !/\.llm|llm:/i.test(text)) {
    throw new LlmNodeError('BAD_ADDRESS', `${JSON.stringify(text.trim().slice(0, 80))} is no contact and no address.`, {
      hint: 'See your contacts with: llm-node contacts ls. An address has 56 characters followed by .llm.',
    })
  }
  const hint = parseAddressUri(named?.address ?? text)
  const known = contacts.find(({ address }) => address === hint.address)
  const addrs = [...new Set([...hint.addrs, ...(known?.addrs ?? [])])].slice(0, p2pLimits.addressesPerPeer)
  return { ...hint, addrs, petname: known?.petname ?? null, uri: formatAddressUri(hint.addressKey, addrs) }
}

async function saveContacts(home: Home, contacts: readonly Contact[]): Promise<void> {
  if (contacts.length > p2pLimits.contacts) {
    throw new LlmNodeError('LIMIT', `A home keeps at most ${p2pLimits.contacts} contacts.`)
  }
  await writeFileAtomic(pathOf(home), `${JSON.stringify({ version: 1, contacts }, null, 2)}\n`, 0o600)
}

function changed(known: Contact, address: string): LlmNodeError {
  const trust = known.verified ? 'whose safety number you have compared' : 'known since the first contact'
  return new LlmNodeError(
    'CONTACT_CHANGED',
    `${known.petname} is ${known.address}, ${trust}; this is another address, ${address}. Somebody may be posing as ${known.petname}.`,
    {
      hint: `Ask ${known.petname} on another way and compare the safety numbers. If it is right: contacts add … --replace`,
    },
  )
}

/** The parts that people look at: the first four characters, or six near the end; the last two hardly ever differ. */
function looksAlike(a: string, b: string): boolean {
  return a !== b && (a.slice(0, 4) === b.slice(0, 4) || a.slice(48, 54) === b.slice(48, 54))
}

function isNamed(contact: Contact, text: string): boolean {
  return foldPetname(contact.petname) === foldPetname(text.trim())
}

function pathOf(home: Home): string {
  return join(home.dataFolder, 'contacts.json')
}
