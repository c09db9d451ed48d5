import type { z } from 'zod'
import type { Endpoint } from './endpoint.ts'
import {
  configBody,
  contactAddedBody,
  contactNamed,
  contactRequest,
  contactsBody,
  doctorBody,
  inviteBody,
  modelsBody,
  planBody,
  planRequest,
  settingRequest,
} from './home-bodies.ts'

type Half = [path: string, summary: string, schema: z.ZodType, request?: z.ZodType]

const gets: readonly Half[] = [
  ['/api/invite', 'The line that lets a friend join this network.', inviteBody],
  ['/api/contacts', 'The petnames of this home.', contactsBody],
  ['/api/config', 'The settings.', configBody],
  ['/api/doctor', 'Checks this machine, this home and the network; takes up to 5 s.', doctorBody],
  ['/api/models', 'The models of this home, and the catalogue.', modelsBody],
]
const posts: readonly Half[] = [
  ['/api/contacts', 'Gives an address a petname.', contactAddedBody, contactRequest],
  ['/api/contacts/remove', 'Forgets a petname.', contactsBody, contactNamed],
  ['/api/config', 'Changes one setting, in force at the next start.', configBody, settingRequest],
  ['/api/plan', 'What this node could hold of a model, and what that would cost.', planBody, planRequest],
]

const endpointOf =
  (method: Endpoint['method']) =>
  ([path, summary, schema, request]: Half): Endpoint => {
    const response = { type: 'application/json', schema }
    return { method, path, summary, access: 'token', response, ...(request === undefined ? {} : { request }) }
  }

/** Of the home rather than the running node. */
export const homeEndpoints: readonly Endpoint[] = [...gets.map(endpointOf('get')), ...posts.map(endpointOf('post'))]
