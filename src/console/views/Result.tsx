/**
 * What a query came to: its rows, its notices, or why it has none.
 */
import { useEffect, useState } from "preact/hooks"
import * as Queries from "../api/queries.ts"
import { useNow } from "../app/clock.ts"
import { say, sayError } from "../app/status.ts"
import { type Format, formats, save } from "../grid/download.ts"
import { Grid } from "../grid/Grid.tsx"
import * as Rows from "../grid/rows.ts"
import { type Statement, placeOf } from "../sql/statements.ts"
import { useWords } from "../text/text.ts"
import { bytes, span } from "../text/times.ts"
import { StateBadge } from "./StateBadge.tsx"

const Failure = ({ query, statement }: { readonly query: Queries.Query; readonly statement: Statement | null }) => {
  const words = useWords()
  const { error } = query
  if (error === null) return null
  const before =
    error.position === undefined ? null : query.sql.slice(0, placeOf(query.sql, error.position)).split("\n")
  return (
    <div class="pad stack" role={statement === null ? undefined : "alert"}>
      <p class={`note ${query.state === "Canceled" ? "off" : "bad"}`}>
        <b>{error.sqlState ?? error.code}</b> {error.message}{" "}
        {before !== null && (
          <span class="place">({words.errorAt(before.length, (before.at(-1)?.length ?? 0) + 1)})</span>
        )}
      </p>
      {error.detail !== undefined && (
        <p>
          <b>{words.detail}</b> {error.detail}
        </p>
      )}
      {error.hint !== undefined && (
        <p>
          <b>{words.hint}</b> {error.hint}
        </p>
      )}
      {error.written !== undefined && <p class="note wait">{words.written}</p>}
    </div>
  )
}

const Notices = ({ query }: { readonly query: Queries.Query }) => {
  const words = useWords()
  if (query.notices.length === 0) return null
  return (
    <details class="notices" open={query.rowCount === 0}>
      <summary>
        {words.notices} <span class="badge plain">{query.notices.length + query.noticesDropped}</span>
      </summary>
      <ul>
        {query.notices.map(({ message, severity }, index) => (
          <li key={index}>
            <b>{severity}</b> <span class="mono">{message}</span>
          </li>
        ))}
        {query.noticesDropped > 0 && <li class="muted">{words.noticesDropped(query.noticesDropped)}</li>}
      </ul>
    </details>
  )
}

const labels: Readonly<Record<Format, string>> = { csv: "CSV", json: "JSON", arrow: "Arrow" }

const Download = ({ query }: { readonly query: Queries.Query }) => {
  const words = useWords()
  const [isBusy, setBusy] = useState(false)
  const start = async (format: Format) => {
    setBusy(true)
    const total = query.rowCount ?? 0
    await save(query.id, total, format, (rows) => say(words.downloading(rows))).then(
      (name) => say(name === undefined ? "" : words.downloaded(total, name)),
      sayError
    )
    setBusy(false)
  }
  return (
    <div class="row" role="group" aria-label={words.download}>
      <span class="muted small" aria-hidden="true">
        {words.download}
      </span>
      {formats.map((format) => (
        <button
          key={format}
          class="compact"
          aria-label={`${words.download} ${labels[format]}`}
          disabled={isBusy}
          onClick={() => void start(format)}
        >
          {labels[format]}
        </button>
      ))}
    </div>
  )
}

const Running = ({ query }: { readonly query: Queries.Query }) => {
  const now = useNow(100)
  return <span class="muted num">{span(Queries.tookOf(query, now))}</span>
}

const useRows = (query: Queries.Query | undefined) => {
  const [source, setSource] = useState<Rows.RowSource | null>(null)
  const [problem, setProblem] = useState("")
  const id = query?.state === "Succeeded" && (query.rowCount ?? 0) > 0 ? query.id : ""
  useEffect(() => {
    if (id === "" || query === undefined) return
    let opened: Rows.RowSource | undefined
    let isGone = false
    const open = async () => {
      opened = await Rows.open(id, query.rowCount ?? 0)
      if (isGone) opened.close()
      else setSource(opened)
    }
    open().catch((error: unknown) => setProblem(error instanceof Error ? error.message : String(error)))
    return () => {
      isGone = true
      opened?.close()
    }
  }, [id])
  return { source, problem }
}

export const Result = ({
  id,
  query,
  statement
}: {
  readonly id: string
  readonly query: Queries.Query | undefined
  readonly statement: Statement | null
}) => {
  const words = useWords()
  const { problem, source } = useRows(query)
  const isEmpty = query?.state === "Succeeded" && query.rowCount === 0
  return (
    <section class="panel result" aria-label={words.result} aria-busy={query !== undefined && !Queries.isOver(query)}>
      {query !== undefined && (
        <div class="result-bar">
          <StateBadge state={query.state} />
          {Queries.isOver(query) ? (
            <span class="muted num">
              {query.state === "Succeeded"
                ? words.rowsIn(query.rowCount ?? 0, span(Queries.tookOf(query, 0)))
                : span(Queries.tookOf(query, 0))}
              {query.bytes !== null && query.bytes > 0 && <> · {bytes(query.bytes)}</>}
            </span>
          ) : (
            <Running query={query} />
          )}
          <span class="push" />
          {source !== null && <Download query={query} />}
        </div>
      )}
      {query !== undefined && <Notices query={query} />}
      {query?.error !== null && query !== undefined && <Failure query={query} statement={statement} />}
      {source !== null && <Grid label={words.result} source={source} />}
      {problem !== "" && <p class="empty">{words.rowsAway}</p>}
      {isEmpty && <p class="empty">{words.noRows}</p>}
      {query === undefined && <div class="empty">{id === "" ? words.noRowsYet : words.loading}</div>}
    </section>
  )
}
