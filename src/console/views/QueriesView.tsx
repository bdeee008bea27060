/**
 * My queries, live: every state as it comes, filters, one to look at, and an end at a click.
 */
import { useMemo, useState } from "preact/hooks"
import { feed } from "../api/feed.ts"
import * as Queries from "../api/queries.ts"
import { useNow } from "../app/clock.ts"
import { goTo, linkTo, route } from "../app/router.ts"
import * as Store from "../app/store.ts"
import { comment } from "../sql/catalogue.ts"
import { useWords } from "../text/text.ts"
import { bytes, count, moment, span } from "../text/times.ts"
import { QueryView } from "./QueryView.tsx"
import { StateBadge } from "./StateBadge.tsx"
import { Sure } from "./Sure.tsx"
import { useCancel } from "./useCancel.ts"
import { VirtualList } from "./VirtualList.tsx"

const filter = Store.kept("queries state", "", Store.anyText)
const search = Store.make("")

const rowHeight = 52

/** What runs comes first, then what waits. */
const rankOf = (query: Queries.Query): number => (Queries.isOver(query) ? 2 : query.state === "Queued" ? 1 : 0)

const Took = ({ query }: { readonly query: Queries.Query }) => {
  const isOver = Queries.isOver(query)
  const now = useNow(100, !isOver)
  return <>{span(Queries.tookOf(query, now))}</>
}

/** A row; it is drawn again only where something of it is new. */
const Item = ({
  isBusy,
  onCancel,
  query
}: {
  readonly query: Queries.Query
  readonly isBusy: boolean
  readonly onCancel: (id: string) => void
}) => {
  const words = useWords()
  const draw = () => (
    <>
      <span role="cell">
        <StateBadge state={query.state} />
      </span>
      <span role="cell" class="statement">
        <a href={linkTo("queries", query.id)} class="mono" title={query.id}>
          {query.sql.slice(0, 300).replaceAll(/\s+/g, " ")}
        </a>
      </span>
      <span role="cell" class="num when">
        {moment(query.submittedAt)}
      </span>
      <span role="cell" class="num took">
        <Took query={query} />
      </span>
      <span role="cell" class="num size">
        {query.rowCount !== null && (
          <>
            {count(query.rowCount)}
            <span class="unit"> {words.rowUnit(query.rowCount)}</span>
          </>
        )}
        {query.bytes !== null && query.bytes > 0 && <small class="muted">{bytes(query.bytes)}</small>}
      </span>
      <span role="cell" class="act">
        {Queries.isOver(query) ? (
          <a class="button compact" href={linkTo("queries", query.id)}>
            {query.state === "Succeeded" && (query.rowCount ?? 0) > 0 ? words.rows : words.detail}
          </a>
        ) : (
          <button
            class="compact danger"
            disabled={isBusy || query.state === "Canceling"}
            onClick={() => onCancel(query.id)}
          >
            {words.cancel}
          </button>
        )}
      </span>
    </>
  )
  return useMemo(draw, [query, isBusy, words])
}

/** All queries, what runs first, the newest first. */
const inOrder = (queries: Iterable<Queries.Query>): ReadonlyArray<Queries.Query> =>
  Array.from(queries, (query) => ({ query, rank: rankOf(query), at: Date.parse(query.submittedAt) }))
    .filter(({ query: { sql } }) => !sql.startsWith(comment))
    .toSorted((a, b) => a.rank - b.rank || b.at - a.at)
    .map(({ query }) => query)

const List = () => {
  const words = useWords()
  const known = Store.useStore(feed.queries)
  const all = useMemo(() => inOrder(known.values()), [known])
  const isLive = Store.useStore(feed.isLive)
  const state = Store.useStore(filter)
  const text = Store.useStore(search).toLowerCase()
  const { busy, cancel } = useCancel()
  const [isSure, setSure] = useState(false)
  const running = all.filter((query) => !Queries.isOver(query))
  const shown = all.filter(
    (query) =>
      (state === "" || query.state === state) &&
      (text === "" || query.sql.toLowerCase().includes(text) || query.id.includes(text))
  )
  const cancelAll = () => {
    setSure(false)
    for (const { id } of running) void cancel(id)
  }
  return (
    <section class="view" aria-label={words.views.queries}>
      <div class="head">
        <h1>{words.views.queries}</h1>
        <span class={`badge ${isLive ? "ok" : "off"}`}>{isLive ? words.live : words.notLive}</span>
        <label class="field inline">
          <span class="hidden">{words.stateFilter}</span>
          <select value={state} onChange={(event) => filter.set(event.currentTarget.value)}>
            <option value="">{words.all}</option>
            {Queries.states.map((name) => (
              <option key={name} value={name}>
                {words.states[name]}
              </option>
            ))}
          </select>
        </label>
        <input
          type="search"
          aria-label={words.search}
          placeholder={words.searchHint}
          value={text}
          onInput={(event) => search.set(event.currentTarget.value)}
        />
        {running.length > 0 &&
          (isSure ? (
            <Sure question={words.cancelAllSure(running.length)} onYes={cancelAll} onNo={() => setSure(false)} />
          ) : (
            <button class="danger" onClick={() => setSure(true)}>
              {words.cancelAll}
            </button>
          ))}
      </div>
      {shown.length === 0 ? (
        <div class="panel empty">
          <strong>{all.length === 0 ? words.noQueries : words.noQueriesMatch}</strong>
          {all.length === 0 && <span>{words.noQueriesHint}</span>}
        </div>
      ) : (
        <div class="panel queries" role="table" aria-label={words.views.queries} aria-rowcount={shown.length + 1}>
          <div class="queries-row queries-head" role="row" aria-rowindex={1}>
            <span role="columnheader">{words.state}</span>
            <span role="columnheader">{words.statement}</span>
            <span role="columnheader" class="num when">
              {words.started}
            </span>
            <span role="columnheader" class="num took">
              {words.took}
            </span>
            <span role="columnheader" class="num size">
              {words.rows}
            </span>
            <span role="columnheader" class="act">
              <span class="hidden">{words.cancel}</span>
            </span>
          </div>
          <VirtualList
            items={shown}
            rowHeight={rowHeight}
            keyOf={({ id }) => id}
            className="queries-row"
            draw={(query) => <Item query={query} isBusy={busy.has(query.id)} onCancel={(id) => void cancel(id)} />}
          />
        </div>
      )}
      <p class="muted small">{words.queriesShown(shown.length, all.length)}</p>
    </section>
  )
}

export const QueriesView = () => {
  const { id } = Store.useStore(route)
  return id === null ? <List /> : <QueryView key={id} id={id} onBack={() => goTo("queries")} />
}
