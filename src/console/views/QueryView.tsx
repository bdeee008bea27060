/**
 * One query: its statement, the way it went through its states, and its rows for as long as they are kept.
 */
import { useEffect, useState } from "preact/hooks"
import { feed } from "../api/feed.ts"
import * as Queries from "../api/queries.ts"
import { useNow } from "../app/clock.ts"
import { goTo } from "../app/router.ts"
import { useStore } from "../app/store.ts"
import { useWords } from "../text/text.ts"
import { moment, span } from "../text/times.ts"
import { Result } from "./Result.tsx"
import * as SqlState from "./sqlState.ts"
import { useCancel } from "./useCancel.ts"

const Timeline = ({ query }: { readonly query: Queries.Query }) => {
  const words = useWords()
  const isOver = Queries.isOver(query)
  const now = useNow(200, !isOver)
  const { transitions } = query
  const begin = Date.parse(transitions[0]?.at ?? query.submittedAt)
  const end = isOver ? Date.parse(transitions.at(-1)?.at ?? query.submittedAt) : now
  const whole = Math.max(1, end - begin)
  return (
    <ol class="timeline" aria-label={words.timeline}>
      {transitions.map(({ at, state }, index) => {
        const from = Date.parse(at)
        const to = index + 1 < transitions.length ? Date.parse(transitions[index + 1]?.at ?? at) : end
        const isLast = index === transitions.length - 1 && isOver
        return (
          <li key={index} class={Queries.toneOf(state)}>
            <span class="name">{words.states[state]}</span>
            <span class="bar" aria-hidden="true">
              <i
                style={{
                  marginLeft: `min(${((from - begin) / whole) * 100}%, 100% - 3px)`,
                  width: isLast ? "3px" : `max(3px, ${((to - from) / whole) * 100}%)`
                }}
              />
            </span>
            <span class="num muted">{isLast ? moment(at) : span(to - from)}</span>
          </li>
        )
      })}
    </ol>
  )
}

export const QueryView = ({ id, onBack }: { readonly id: string; readonly onBack: () => void }) => {
  const words = useWords()
  const query = useStore(feed.queries).get(id)
  const [problem, setProblem] = useState("")
  const { busy, cancel } = useCancel()
  useEffect(() => {
    if (query === undefined) {
      Queries.find(id).then(feed.take, (error: unknown) =>
        setProblem(error instanceof Error ? error.message : String(error))
      )
    }
  }, [id, query === undefined])
  const edit = () => {
    if (query === undefined) return
    SqlState.text.set(query.sql)
    SqlState.shown.set(query.id)
    SqlState.ran.set(null)
    goTo("sql")
  }
  return (
    <section class="view" aria-label={words.views.queries}>
      <div class="head">
        <button class="compact" onClick={onBack}>
          ← {words.back}
        </button>
        <h1 class="mono small">{id}</h1>
        {query !== undefined && (
          <>
            <button class="compact" onClick={edit}>
              {words.editAgain}
            </button>
            {!Queries.isOver(query) && (
              <button class="compact danger" disabled={busy.has(id)} onClick={() => void cancel(id)}>
                {words.cancel}
              </button>
            )}
          </>
        )}
      </div>
      {query === undefined ? (
        <p class="panel empty">{problem === "" ? words.loading : problem}</p>
      ) : (
        <>
          <div class="two">
            <pre class="panel pad code" tabIndex={0} aria-label={words.statement}>
              {query.sql}
            </pre>
            <div class="panel pad stack">
              <h2>{words.timeline}</h2>
              <Timeline query={query} />
              <p class="muted small">
                {words.engine} {query.engine}
                {query.expiresAt !== null && (
                  <>
                    {" · "}
                    {words.keptUntil} {moment(query.expiresAt)}
                  </>
                )}
              </p>
            </div>
          </div>
          <Result id={id} query={query} statement={null} />
        </>
      )}
    </section>
  )
}
