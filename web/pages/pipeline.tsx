import { GenerationView } from '../components/generation-view.tsx'
import { generations, running } from '../lib/live.ts'
import { texts } from '../texts.ts'

const words = texts.pipeline
const SHOWN = 12

/** The ways of the answers: those under way, then the last ones. */
export function Pipeline() {
  const now = running.value
  const past = generations.value.filter((each) => !now.includes(each)).slice(0, SHOWN)
  return (
    <>
      <h1>{words.title}</h1>
      <p class="about">{words.about}</p>
      {generations.value.length === 0 && <p class="card">{words.none}</p>}
      {now.length > 0 && (
        <section class="card card-wide" aria-label={words.now}>
          <h2>{words.now}</h2>
          {now.map((generation) => (
            <GenerationView key={generation.id} generation={generation} />
          ))}
        </section>
      )}
      {past.length > 0 && (
        <section class="card card-wide" aria-label={words.past}>
          <h2>{words.past}</h2>
          {past.map((generation) => (
            <GenerationView key={generation.id} generation={generation} />
          ))}
        </section>
      )}
    </>
  )
}
