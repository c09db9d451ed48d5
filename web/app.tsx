import { useSignal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import { Shell } from './components/shell.tsx'
import { getJson, token } from './lib/api.ts'
import { SignIn } from './pages/sign-in.tsx'
import { Wizard } from './setup/wizard.tsx'
import { texts } from './texts.ts'

/** What is served here decides what is shown: a node, the wizard, or the demo. */
export function App() {
  const kind = useSignal<'node' | 'setup' | 'demo' | undefined>(undefined)
  useEffect(() => {
    const ask = () =>
      getJson<{ kind: 'node' | 'setup' | 'demo' }>('/api/health').then(
        (health) => {
          kind.value = health.kind
        },
        () => setTimeout(ask, 1_000),
      )
    void ask()
  }, [kind])
  if (token.value === null) return <SignIn />
  if (kind.value === undefined) return <p class="waiting">{texts.loading}</p>
  return kind.value === 'setup' ? <Wizard /> : <Shell isDemo={kind.value === 'demo'} />
}
