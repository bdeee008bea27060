/**
 * Write SQL, run it, look at what comes.
 */
import { useEffect, useMemo, useRef, useState } from "preact/hooks"
import { feed } from "../api/feed.ts"
import * as Queries from "../api/queries.ts"
import { lazy } from "../app/lazy.tsx"
import { say, sayError } from "../app/status.ts"
import * as Store from "../app/store.ts"
import * as Catalogue from "../sql/catalogue.ts"
import type { EditorProps, Fault } from "../sql/Editor.tsx"
import * as Statements from "../sql/statements.ts"
import { useWords, words as wordsNow } from "../text/text.ts"
import { span } from "../text/times.ts"
import { Result } from "./Result.tsx"
import { SqlOptions } from "./SqlOptions.tsx"
import * as SqlState from "./sqlState.ts"

const Editor = lazy<EditorProps>(() => import("../sql/Editor.tsx").then((it) => it.Editor))

/** Where the server's error is, in the whole text. */
const faultOf = (
  query: Queries.Query | undefined,
  statement: Statements.Statement | null,
  text: string
): Fault | null => {
  const position = query?.error?.position
  if (position === undefined || statement === null || text.slice(statement.from, statement.to) !== statement.text)
    return null
  const from = statement.from + Statements.placeOf(statement.text, position)
  const word = /^[\w$]+/.exec(text.slice(from))?.[0].length ?? 1
  return from >= text.length ? null : { from, to: Math.min(text.length, from + word) }
}

const paramsOf = (text: string): ReadonlyArray<unknown> | undefined => {
  if (text.trim() === "") return undefined
  try {
    const params: unknown = JSON.parse(text)
    if (Array.isArray(params)) return params
  } catch {
    // It is said below.
  }
  throw new Error(wordsNow().parametersInvalid)
}

/** A statement that is to be run, and all that the service is told of it. */
interface Run {
  readonly statement: Statements.Statement
  readonly submission: Queries.Submission
}

/** What running the statement at the cursor means now. */
const runOf = (cursor: number): Run | undefined => {
  const all = Statements.split(SqlState.text.get())
  const statement = all[Statements.indexAt(all, cursor)]
  if (statement === undefined) {
    say(wordsNow().nothingToRun)
    return undefined
  }
  const timeoutMs = Number(SqlState.deadline.get())
  const engine = SqlState.engine.get()
  const params = paramsOf(SqlState.params.get())
  const submission = {
    sql: statement.text,
    ...(engine !== "" && { engine }),
    ...(params !== undefined && { params }),
    ...(timeoutMs > 0 && { timeoutMs })
  }
  return { statement, submission }
}

const isSame = (one: Run, other: Run) => JSON.stringify(one.submission) === JSON.stringify(other.submission)

/** Submits it, and shows it. Answers its id. */
const submit = async ({ statement, submission }: Run): Promise<string> => {
  const { id } = await Queries.submit(submission)
  SqlState.shown.set(id)
  SqlState.ran.set(statement)
  return id
}

/** Says how a query ended, unless another one is shown by then. */
const follow = async (id: string): Promise<void> => {
  const query = await feed.outcome(id)
  feed.take(query)
  if (SqlState.shown.get() !== id) return
  if (query.state === "Succeeded") say(wordsNow().rowsIn(query.rowCount ?? 0, span(Queries.tookOf(query, Date.now()))))
  else if (query.state === "Canceled") say(wordsNow().queryCanceled)
  else if (query.error !== null) sayError(query.error.message)
}

export const SqlView = () => {
  const words = useWords()
  const text = Store.useStore(SqlState.text)
  const shown = Store.useStore(SqlState.shown)
  const ran = Store.useStore(SqlState.ran)
  const engineName = Store.useStore(SqlState.engine)
  const engines = Store.useStore(SqlState.engines)
  const query = Store.useStore(feed.queries).get(shown)
  /** The last statement that was run, while it is on its way to the service. */
  const sending = useRef<{ readonly run: Run; readonly sent: Promise<string> }>(undefined)
  const [catalogue, setCatalogue] = useState<Catalogue.Catalogue>({})
  const [at, setAt] = useState({ index: 0, all: 0 })
  const cursor = useRef(0)
  const engine = engines.find(({ name }) => name === engineName) ?? engines[0]
  const isRunning = query !== undefined && !Queries.isOver(query)

  useEffect(() => void SqlState.loadEngines().catch(sayError), [])
  useEffect(() => {
    if (engine === undefined || !engine.ready) return
    let isGone = false
    void Catalogue.of(engine.name, engine.kind).then((found) => !isGone && setCatalogue(found))
    return () => {
      isGone = true
    }
  }, [engine?.name, engine?.ready])
  // A reload finds the query that was shown.
  useEffect(() => {
    if (shown !== "" && !feed.queries.get().has(shown)) {
      void Queries.find(shown).then(feed.take, () => SqlState.shown.set(""))
    }
  }, [shown])

  const start = async () => {
    const run = runOf(cursor.current)
    const before = sending.current
    // A double click means one run.
    if (run === undefined || (before !== undefined && isSame(before.run, run))) return
    const send = () => submit(run)
    const mine = { run, sent: before === undefined ? send() : before.sent.then(send, send) }
    sending.current = mine
    const id = await mine.sent.finally(() => {
      if (sending.current === mine) sending.current = undefined
    })
    say(words.states.Running)
    await follow(id)
  }
  const onRun = () => void start().catch(sayError)
  const onCursor = (place: number) => {
    cursor.current = place
    const all = Statements.split(SqlState.text.get())
    setAt({ index: Statements.indexAt(all, place) + 1, all: all.length })
  }
  const fault = useMemo(() => faultOf(query, ran, text), [query?.error, ran, text])

  return (
    <section class="view sql" aria-label={words.views.sql}>
      <h1 class="hidden">{words.views.sql}</h1>
      <div class="panel sql-top">
        <div class="sql-editor">
          <Editor
            label={words.sql}
            text={text}
            kind={engine?.kind ?? "postgres"}
            catalogue={catalogue}
            fault={fault}
            onText={SqlState.text.set}
            onCursor={onCursor}
            onRun={onRun}
          />
        </div>
        <div class="sql-bar">
          <button class="primary" onClick={onRun} title={words.runHint}>
            {words.run}
            <kbd aria-hidden="true">Ctrl ⏎</kbd>
          </button>
          {isRunning && (
            <button class="danger" onClick={() => void Queries.cancel(shown).catch(sayError)}>
              {words.cancel}
            </button>
          )}
          {at.all > 1 && <span class="muted small">{words.statementOf(at.index, at.all)}</span>}
          <SqlOptions engines={engines} />
        </div>
      </div>
      <Result key={shown} id={shown} query={query} statement={ran} />
    </section>
  )
}
