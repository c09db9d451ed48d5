import { useSignal } from '@preact/signals'
import { CopyField } from '../components/copy-field.tsx'
import { texts } from '../texts.ts'

/** Without a token there is nothing to show but where to find it. */
export function SignIn() {
  const field = useSignal('')
  const wrong = useSignal(false)
  const open = (event: Event) => {
    event.preventDefault()
    const token = /[\w-]{32,128}(?!.*[\w-]{32})/.exec(field.value.trim())?.[0]
    wrong.value = token === undefined
    if (token === undefined) return
    location.hash = `#token=${token}`
    location.reload()
  }
  return (
    <main class="sign-in card">
      <h1>{texts.signIn.title}</h1>
      <p>{texts.signIn.about}</p>
      <CopyField text={texts.signIn.command} label={texts.signIn.command} />
      <form onSubmit={open}>
        <label for="token">{texts.signIn.field}</label>
        <input
          id="token"
          type="password"
          autocomplete="off"
          value={field.value}
          onInput={(event) => {
            field.value = event.currentTarget.value
          }}
        />
        {wrong.value && <p role="alert">{texts.signIn.wrong}</p>}
        <button type="submit">{texts.signIn.open}</button>
      </form>
    </main>
  )
}
