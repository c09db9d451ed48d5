import { expect, onTestFinished, test } from 'vitest'
import type { AskResult, CoverageBody, PeerBody } from '../../src/api/types.ts'
import { createSandbox, expectedAnswer, runJson, startNode } from '../e2e/cli.ts'
import { createLan } from './lan.ts'
import { namespacesUnavailable } from './namespaces.ts'

const question = 'What is llm-node?'
const unavailable = namespacesUnavailable()

test.skipIf(unavailable !== null)(
  `four machines on one LAN find each other by themselves and answer${unavailable === null ? '' : `: ${unavailable}`}`,
  async () => {
    const sandbox = await createSandbox()
    const lan = await createLan({ machines: 4 })
    onTestFinished(async () => {
      await lan.remove()
      await sandbox.close()
    })
    const on = (machine: number) => ({ prefix: lan.prefixOf(machine) })
    const homeOf = (machine: number) => ['--home', sandbox.home(`machine${machine}`)]

    // As a user types it: nothing about networks, ports or addresses.
    const holdings = [
      ['--layers', '0-3', '--no-ends'],
      ['--layers', '4-7', '--no-ends'],
      ['--layers', '8-11', '--no-ends'],
      ['--layers', 'none'],
    ]
    await Promise.all(
      holdings.map((what, machine) => runJson(['setup', ...homeOf(machine), '--recipe', 'f32', ...what], on(machine))),
    )
    const nodes = await Promise.all(
      [0, 1, 2].map(async (machine) =>
        sandbox.track(await startNode(sandbox.home(`machine${machine}`), ['--threads', '1'], on(machine))),
      ),
    )
    expect(nodes.map((node) => node.listening[0])).toEqual(
      [0, 1, 2].map((machine) => expect.stringContaining(`/ip4/${lan.addressOf(machine)}/tcp/5561/p2p/`)),
    )

    const answer = await runJson<AskResult>(['ask', question, ...homeOf(3), '--temperature', '0'], on(3))
    const expected = await expectedAnswer(question)
    expect(answer.tokens).toEqual(expected.answer_ids)
    expect(answer).toMatchObject({ text: expected.answer, exact: true, profile: 'direct' })
    expect(answer.hops.map((hop) => hop.address)).toEqual(nodes.map((node) => node.address))

    const { models } = await runJson<CoverageBody>(['coverage', ...homeOf(0)], on(0))
    expect(models[0]).toMatchObject({ complete: true, replicas: Array(12).fill(1) })
    const { peers } = await runJson<{ peers: PeerBody[] }>(['peers', ...homeOf(0)], on(0))
    const others = new Set(nodes.slice(1).map((node) => node.address))
    expect(new Set(peers.map((peer) => peer.address))).toEqual(others)
    await Promise.all([0, 1, 2].map((machine) => runJson(['stop', ...homeOf(machine)], on(machine))))
    expect((await Promise.all(nodes.map((node) => node.ended))).map(({ code }) => code)).toEqual([0, 0, 0])
  },
)
