import { nameOf } from '../lib/live.ts'
import { texts } from '../texts.ts'
import { choice, choose } from './choice.ts'
import type { StepProps } from './step-props.ts'

const words = texts.setup.network

export function NetworkStep({ state: { network }, next, back, act }: StepProps) {
  const { byInvite, invite, network: name } = choice.value
  const look = () => act('network', byInvite ? { invite: invite.trim() } : { name: name.trim() })
  const submit = async (event: Event) => {
    event.preventDefault()
    if (network.looking && network.name === name.trim() && !byInvite) return next()
    await look()
  }
  const isKept = network.looking && (byInvite || network.name === name.trim())
  return (
    <form onSubmit={submit}>
      <h1>{words.title}</h1>
      <p class="about">{words.about}</p>
      <fieldset class="switch">
        <legend class="hidden">{words.title}</legend>
        {[false, true].map((value) => (
          <label key={String(value)}>
            <input type="radio" name="by" checked={byInvite === value} onChange={() => choose({ byInvite: value })} />
            {value ? words.byInvite : words.byName}
          </label>
        ))}
      </fieldset>
      {byInvite ? (
        <Field label={words.invite} value={invite} onInput={(text) => choose({ invite: text })} />
      ) : (
        <Field label={words.name} value={name} onInput={(text) => choose({ network: text })} />
      )}
      {network.looking && <Nearby peers={network.peers} />}
      <p class="actions">
        <button type="button" class="quiet" onClick={back}>
          {texts.setup.back}
        </button>
        {isKept ? (
          <button type="button" onClick={next}>
            {texts.setup.next}
          </button>
        ) : (
          <button type="submit">{words.look}</button>
        )}
      </p>
    </form>
  )
}

function Field({ label, value, onInput }: { label: string; value: string; onInput: (text: string) => void }) {
  return (
    <label class="field">
      <span>{label}</span>
      <input required value={value} spellcheck={false} onInput={(event) => onInput(event.currentTarget.value)} />
    </label>
  )
}

function Nearby({ peers }: { peers: StepProps['state']['network']['peers'] }) {
  return (
    <section class="nearby" aria-live="polite">
      <p>
        <span class="dot dot-busy" /> {peers.length === 0 ? words.looking : words.found(peers.length)}
      </p>
      {peers.length === 0 && <p class="note">{words.nobody}</p>}
      <ul class="plain">
        {peers.map(({ address, serving }) => (
          <li key={address}>
            <strong>{nameOf(address)}</strong>{' '}
            {serving.length === 0 ? words.noLayers : words.serves(serving.join(', '))}
          </li>
        ))}
      </ul>
    </section>
  )
}
