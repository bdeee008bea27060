/**
 * Write a script, run it, see what it wrote and returned; my functions, and an end for each.
 */
import { useCallback, useEffect, useState } from "preact/hooks"
import { CallFailed, client, run } from "../api/client.ts"
import { say, sayError } from "../app/status.ts"
import * as Store from "../app/store.ts"
import { useWords } from "../text/text.ts"
import { moment, span } from "../text/times.ts"
import { StateBadge } from "./StateBadge.tsx"

const examples = {
  javascript:
    'export default (params, context) => {\n  console.log("hello", params)\n  return { doubled: params.n * 2 }\n}\n',
  typescript:
    'export default (params: { n: number }): { doubled: number } => {\n  console.log("hello", params)\n  return { doubled: params.n * 2 }\n}\n',
  python: 'def main(params, context):\n    print("hello", params)\n    return {"doubled": params["n"] * 2}\n'
} as const
type Language = keyof typeof examples
const names: Readonly<Record<Language, string>> = {
  javascript: "JavaScript",
  typescript: "TypeScript",
  python: "Python"
}
const isLanguage = (text: string): text is Language => Object.hasOwn(examples, text)

const language = Store.kept<Language>("function language", "javascript", isLanguage)
const script = Store.kept("function script", examples.javascript as string, Store.anyText)
const params = Store.kept("function params", '{"n": 21}', Store.anyText)
const title = Store.kept("function title", "", Store.anyText)

const ask = () => run(client.functions.list({ query: {} })).then(({ body }) => body)
type Info = Awaited<ReturnType<typeof ask>>[number]

const execute = async (id: Info["id"], text: string) => {
  const params: unknown = text.trim() === "" ? null : JSON.parse(text)
  const answer = await run(client.functions.execute({ params: { id }, payload: { params: params as never } }))
  const first = "body" in answer ? answer.body : answer
  // It goes on when it takes longer than the answer may wait.
  let execution = first
  while (execution.endedAt === null) {
    await new Promise((resolve) => setTimeout(resolve, 1000))
    execution = await run(client.functions.execution({ params: { id: execution.id } }))
  }
  return execution
}
type Execution = Awaited<ReturnType<typeof execute>>

/** What a script failed with, without what is shown beside it. */
const messageOf = ({ message, name }: NonNullable<Execution["error"]>): string =>
  message
    .slice(name !== undefined && message.startsWith(`${name}: `) ? name.length + 2 : 0)
    .replace(/ \(line \d+, column \d+\)$/, "")

const Outcome = ({ execution }: { readonly execution: Execution }) => {
  const words = useWords()
  const { console, consoleTruncated, error, ms, result, state } = execution
  return (
    <div class="panel outcome" aria-live="polite">
      <div class="result-bar">
        <StateBadge state={state} />
        {ms !== null && <span class="muted num">{span(ms)}</span>}
      </div>
      <div class="pad stack">
        {error !== undefined && (
          <p class="note bad">
            <b>{error.name ?? error.code}</b> {messageOf(error)}{" "}
            {error.line !== undefined && <span class="place">({words.errorAt(error.line, error.column ?? 1)})</span>}
          </p>
        )}
        {result !== undefined && (
          <>
            <h2>{words.functionResult}</h2>
            <pre class="well" tabIndex={0}>
              {JSON.stringify(result, null, 2)}
            </pre>
          </>
        )}
        {console.length > 0 && (
          <>
            <h2>{words.functionConsole}</h2>
            <pre class="well" tabIndex={0}>
              {console.map(({ level, text }, index) => (
                <span key={index} class={level === "error" ? "line bad" : "line"}>
                  {text}
                  {"\n"}
                </span>
              ))}
            </pre>
          </>
        )}
        {consoleTruncated && <p class="note wait">{words.functionTruncated}</p>}
      </div>
    </div>
  )
}

const Writer = ({ isBusy, onCreate }: { readonly isBusy: boolean; readonly onCreate: () => void }) => {
  const words = useWords()
  const chosen = Store.useStore(language)
  const choose = (next: Language) => {
    // A script that was not touched is an example, and follows.
    if (script.get() === examples[chosen]) script.set(examples[next])
    language.set(next)
  }
  return (
    <div class="panel pad stack">
      <h2>{words.functionNew}</h2>
      <div class="row">
        <label class="field">
          {words.functionLanguage}
          <select value={chosen} onChange={(event) => choose(event.currentTarget.value as Language)}>
            {Object.entries(names).map(([name, text]) => (
              <option key={name} value={name}>
                {text}
              </option>
            ))}
          </select>
        </label>
        <label class="field grow">
          {words.functionTitle}
          <input
            value={Store.useStore(title)}
            maxLength={200}
            onInput={(event) => title.set(event.currentTarget.value)}
          />
        </label>
      </div>
      <label class="field">
        {words.functionScript}
        <textarea
          rows={10}
          spellcheck={false}
          value={Store.useStore(script)}
          onInput={(event) => script.set(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) onCreate()
          }}
        />
      </label>
      <label class="field">
        {words.functionParams}
        <input
          class="mono"
          spellcheck={false}
          value={Store.useStore(params)}
          onInput={(event) => params.set(event.currentTarget.value)}
        />
      </label>
      <div class="row">
        <button class="primary" disabled={isBusy} onClick={onCreate}>
          {words.functionCreate}
        </button>
      </div>
    </div>
  )
}

export const FunctionsView = () => {
  const words = useWords()
  const [functions, setFunctions] = useState<ReadonlyArray<Info> | null>(null)
  const [isOff, setOff] = useState(false)
  const [isBusy, setBusy] = useState(false)
  const [execution, setExecution] = useState<Execution | null>(null)
  const [problem, setProblem] = useState("")

  const load = useCallback(async () => {
    await ask().then(setFunctions, (error: unknown) => {
      if (error instanceof CallFailed && error.code === "FunctionsNotConfigured") setOff(true)
      else sayError(error)
      setFunctions([])
    })
  }, [])
  useEffect(() => {
    void load()
  }, [])

  const act = async (work: () => Promise<void>) => {
    setBusy(true)
    setProblem("")
    await work().catch((error: unknown) => {
      sayError(error)
      setExecution(null)
      setProblem(error instanceof Error ? error.message : String(error))
    })
    await load()
    setBusy(false)
  }
  const start = (id: Info["id"]) =>
    act(async () => {
      const found = await execute(id, params.get())
      setExecution(found)
      say(words.functionRan(words.states[found.state], span(found.ms ?? 0)))
    })
  const create = () =>
    act(async () => {
      const name = title.get()
      const payload = { language: language.get(), script: script.get(), ...(name !== "" && { title: name }) }
      const { body } = await run(client.functions.create({ payload }))
      const found = await execute(body.id, params.get())
      setExecution(found)
      say(words.functionRan(words.states[found.state], span(found.ms ?? 0)))
    })
  const end = (id: Info["id"]) => act(() => run(client.functions.end({ params: { id } })))

  return (
    <section class="view" aria-label={words.views.functions}>
      <div class="head">
        <h1>{words.views.functions}</h1>
      </div>
      {isOff ? (
        <p class="panel empty">{words.functionsOff}</p>
      ) : (
        <div class="two start">
          <div class="stack">
            <Writer isBusy={isBusy} onCreate={() => void create()} />
          </div>
          <div class="stack">
            {problem !== "" && <p class="note bad">{problem}</p>}
            {execution !== null && <Outcome execution={execution} />}
            <div class="panel">
              <h2 class="pad">{words.functionsYours}</h2>
              {functions === null ? (
                <p class="empty">{words.loading}</p>
              ) : functions.length === 0 ? (
                <div class="empty">
                  <strong>{words.functionsNone}</strong>
                  <span>{words.functionsNoneHint}</span>
                </div>
              ) : (
                <ul class="items">
                  {functions.map(({ expiresAt, id, language, title }) => (
                    <li key={id}>
                      <span class="grow">
                        <b>{title ?? words.functionUntitled}</b>
                        <small class="muted">
                          {isLanguage(language) ? names[language] : language} · {words.expires} {moment(expiresAt)}
                        </small>
                      </span>
                      <button class="compact" disabled={isBusy} onClick={() => void start(id)}>
                        {words.functionRun}
                      </button>
                      <button class="compact danger" disabled={isBusy} onClick={() => void end(id)}>
                        {words.functionEnd}
                      </button>
                    </li>
                  ))}
                </ul>
              )}
            </div>
          </div>
        </div>
      )}
    </section>
  )
}
