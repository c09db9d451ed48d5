import { useSignal } from '@preact/signals'
import { postJson } from '../lib/api.ts'
import type { DemoBody } from '../lib/bodies.ts'
import { askDemo, demoAnswer } from '../lib/demo-answer.ts'
import { formatBytes } from '../lib/format.ts'
import { demo, running } from '../lib/live.ts'
import { texts } from '../texts.ts'
import { Problem } from './problem.tsx'

/** What `demo --web` adds to the pages of a node: its processes, and the power over them. */
export function DemoPanel() {
  const state = demo.value
  const error = useSignal<unknown>(undefined)
  if (state === null) return null
  const act = (verb: 'kill' | 'revive', node: string) => {
    postJson<DemoBody>(`/api/demo/${verb}`, { node }).then(
      (next) => {
        demo.value = next
        error.value = undefined
      },
      (thrown) => {
        error.value = thrown
      },
    )
  }
  return (
    <section class="card card-wide demo" aria-labelledby="demo-title">
      <h2 id="demo-title">{texts.demo.title}</h2>
      <p>{texts.demo.about}</p>
      <ul class="demo-nodes">
        {state.nodes.map((node) => (
          <DemoNode key={node.name} node={node} act={act} />
        ))}
      </ul>
      <Question state={state} />
      <Problem error={error.value} />
      <p class="note" role="status">
        {state.steps.at(-1)}
      </p>
    </section>
  )
}

function DemoNode({
  node,
  act,
}: {
  node: DemoBody['nodes'][number]
  act: (verb: 'kill' | 'revive', name: string) => void
}) {
  const { name, layers, state, address, bytesDownloaded } = node
  const isComputing = running.value.some(({ hops }) =>
    hops.some((hop) => hop.address !== null && hop.address === address),
  )
  const [verb, text, label] =
    state === 'killed'
      ? (['revive', texts.demo.revive, texts.demo.reviveNode(name)] as const)
      : (['kill', texts.demo.kill, texts.demo.killNode(name)] as const)
  return (
    <li class={`demo-node demo-${state}${isComputing ? ' demo-computing' : ''}`}>
      <span class="demo-facts">
        <strong>{name}</strong> {texts.pipeline.layers(layers.replace('-', '–'))}
        <br />
        <small>
          {isComputing ? texts.demo.computing : texts.demo.states[state]}
          {state !== 'killed' && bytesDownloaded > 0 && ` · ${texts.demo.downloaded(formatBytes(bytesDownloaded))}`}
        </small>
      </span>
      <button
        type="button"
        class={verb === 'kill' ? 'danger small' : 'small'}
        aria-label={label}
        disabled={state === 'fetching' || state === 'starting'}
        onClick={() => act(verb, name)}
      >
        {text}
      </button>
    </li>
  )
}

function Question({ state }: { state: DemoBody }) {
  const prompt = useSignal(state.prompt)
  const answer = demoAnswer.value
  return (
    <form
      class="ask"
      onSubmit={(event) => {
        event.preventDefault()
        if (answer.stop === undefined) void askDemo(state.model, prompt.value)
        else answer.stop()
      }}
    >
      <div class="ask-line">
        <input
          aria-label={texts.chat.message}
          value={prompt.value}
          onInput={(event) => {
            prompt.value = event.currentTarget.value
          }}
        />
        <button type="submit" disabled={!state.ready}>
          {answer.stop === undefined ? texts.demo.ask : texts.demo.stop}
        </button>
      </div>
      <p class="note">{texts.demo.long}</p>
      {answer.text !== '' && (
        <div class="demo-answer">
          <p>{answer.text}</p>
        </div>
      )}
      {answer.failovers > 0 && (
        <p class="banner banner-warn" role="status">
          {texts.demo.failover} {answer.same !== 'not asked' && texts.demo.same[answer.same]}
        </p>
      )}
      <Problem error={answer.error} />
    </form>
  )
}
