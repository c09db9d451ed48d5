import type { HomeControl, PlanBody } from '../api/home-bodies.ts'
import { formatSpan } from '../base/span.ts'
import { decodeAddress, parseAddressUri, safetyNumber } from '../p2p/address.ts'
import { parseRecipe } from '../shard/recipe.ts'
import { readCatalogue } from './catalogue.ts'
import { getSetting, setSetting } from './config-edit.ts'
import { addContact, type Contact, listContacts, removeContact } from './contacts.ts'
import { defaultRecipe } from './default-recipe.ts'
import { examine } from './examine.ts'
import { type Home, loadConfig } from './home.ts'
import { inviteOf } from './joining.ts'
import { listModels } from './models.ts'
import { makePlan, type Plan, type SpanCost } from './plan.ts'

/** What the pages may see and do of a home, by the same functions as the commands. */
export function createHomeControl(home: Home): HomeControl {
  return {
    async invite() {
      const { line, invite } = await inviteOf(home, undefined)
      return { line, private: invite.preSharedKey !== undefined }
    },
    contacts: async () => ({ contacts: (await listContacts(home)).map(contactBody) }),
    async addContact({ petname, address }) {
      const { addressKey, addrs } = parseAddressUri(address)
      const { contact, warnings } = await addContact(home, { petname, addressKey, addrs })
      return { contact: contactBody(contact), warnings }
    },
    async removeContact(petname) {
      await removeContact(home, petname)
    },
    config: async () => ({
      file: home.configFile,
      config: (await getSetting(home, undefined)) as Record<string, unknown>,
    }),
    async setSetting({ path, value }) {
      await setSetting(home, path, JSON.stringify(value))
    },
    doctor: async (signal) => ({ checks: await examine(home, signal) }),
    models: () => modelsBody(home),
    async plan({ model, recipe }, signal) {
      const config = await loadConfig(home, { env: process.env })
      return planBody(await makePlan(home, config, { model, recipe, ends: true, look: true, measure: false, signal }))
    },
  }
}

function contactBody({ petname, address, verified }: Contact) {
  return { petname, address, verified, safetyNumber: safetyNumber(decodeAddress(address)) }
}

async function modelsBody(home: Home) {
  const [recipe, held, catalogue] = await Promise.all([defaultRecipe(), listModels(home), catalogueBody()])
  return {
    recipe,
    held: held.map(({ name, source, recipe, layers, nLayers, ends, bytes, problem }) => {
      return { name, source, recipe, layers, nLayers, ends, bytes, problem }
    }),
    catalogue,
  }
}

/** Open models that are known to work, with their sizes in the recipe that suits this processor. */
export async function catalogueBody() {
  const recipe = parseRecipe(await defaultRecipe())
  return (await readCatalogue()).map(({ repository, licence, gated, nLayers, maxContext, sizes }) => {
    const { layerBytes, totalBytes } = sizes[recipe]
    return { repository, licence, gated, nLayers, maxContext, layerBytes, totalBytes }
  })
}

export function costBody({ span, downloadBytes, diskBytes, memory, minutes }: SpanCost) {
  return { layers: formatSpan(span), downloadBytes, diskBytes, memoryBytes: memory.totalBytes, minutes }
}

export function planBody(plan: Plan): PlanBody {
  const { name, source, modelId, recipe, nLayers, fit, swarm, estimate, recommended } = plan
  const facts = { name, source, modelId, recipe, nLayers, fits: fit.layers, limitedBy: fit.limitedBy }
  return {
    ...facts,
    peers: swarm.peers,
    holders: swarm.holders,
    replicas: swarm.replicas,
    estimate: { ...estimate },
    recommended: recommended === null ? null : { ...costBody(recommended), reason: recommended.reason },
  }
}
