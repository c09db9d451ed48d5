import { CopyField } from '../components/copy-field.tsx'
import { QrCode } from '../components/qr-code.tsx'
import { Checks } from '../pages/settings.tsx'
import { texts } from '../texts.ts'
import type { StepProps } from './step-props.ts'

const words = texts.setup.done

export function DoneStep({ state: { node, tests } }: StepProps) {
  if (node === null) return <p class="waiting">{texts.loading}</p>
  const { url, address, invite } = node
  return (
    <>
      <h1>{words.title}</h1>
      <p class="about">{words.about}</p>
      <p class="actions">
        <a class="button" href={`${url}&page=chat`}>
          {words.chat}
        </a>
        <a class="button quiet" href={url}>
          {words.dashboard}
        </a>
      </p>
      <dl>
        <dt>{words.address}</dt>
        <dd>
          <CopyField text={address} label={words.address} />
        </dd>
      </dl>
      {invite !== null && (
        <>
          <p>{words.invite}</p>
          <CopyField text={`llm-node join ${invite}`} label={words.invite} />
          <QrCode text={invite} label={words.qr} />
        </>
      )}
      <details>
        <summary>{texts.setup.tests}</summary>
        <Checks checks={tests} />
      </details>
    </>
  )
}
