import { useSignal } from '@preact/signals'
import { texts } from '../texts.ts'

const SAID_MS = 1_500

/** A text that people take elsewhere. */
export function CopyField({ text, label }: { text: string; label: string }) {
  const copied = useSignal(false)
  const copy = async () => {
    await navigator.clipboard.writeText(text).catch(() => {})
    copied.value = true
    setTimeout(() => {
      copied.value = false
    }, SAID_MS)
  }
  return (
    <div class="copy">
      <code>{text}</code>
      <button type="button" class="quiet" aria-label={`${texts.copy}: ${label}`} onClick={copy}>
        {copied.value ? texts.copied : texts.copy}
      </button>
    </div>
  )
}
