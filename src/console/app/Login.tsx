/**
 * What somebody sees who is not logged in, with the reason where they were.
 */
import { useEffect, useRef, useState } from "preact/hooks"
import { SessionRefused, type Snapshot } from "../../browser/SessionState.ts"
import { useWords } from "../text/text.ts"
import { Choices } from "./Choices.tsx"
import { Mark } from "./icons.tsx"
import { session } from "./session.ts"

export const Login = ({ now }: { readonly now: Snapshot }) => {
  const words = useWords()
  const [problem, setProblem] = useState("")
  const [isBusy, setBusy] = useState(false)
  const username = useRef<HTMLInputElement>(null)
  const password = useRef<HTMLInputElement>(null)
  // A browser heeds `autofocus` once for each page that it loads.
  useEffect(() => username.current?.focus(), [])
  const ended = now.status === "anonymous" ? now.ended : null

  const submit = async (event: SubmitEvent) => {
    event.preventDefault()
    const form = new FormData(event.currentTarget as HTMLFormElement)
    setBusy(true)
    setProblem("")
    try {
      await session.login({ username: form.get("username"), password: form.get("password") })
    } catch (error) {
      setProblem(
        error instanceof SessionRefused
          ? ((words.refused as Readonly<Record<string, string>>)[error.code] ?? error.message)
          : String(error)
      )
      setBusy(false)
      password.current?.select()
    }
  }

  return (
    <main class="login">
      <form class="panel" onSubmit={submit} aria-label={words.loginTitle}>
        <div class="mark">
          <Mark />
          <h1>Holdfast</h1>
        </div>
        {ended !== null && problem === "" && (
          <p class={`note ${ended === "logout" ? "" : "wait"}`}>{words.ended[ended]}</p>
        )}
        {now.trouble !== null && <p class="note wait">{words.unavailableLogin}</p>}
        <label class="field">
          {words.username}
          <input
            ref={username}
            name="username"
            autocomplete="username"
            autocapitalize="none"
            spellcheck={false}
            required
          />
        </label>
        <label class="field">
          {words.password}
          <input ref={password} name="password" type="password" autocomplete="current-password" required />
        </label>
        <p class={problem === "" ? "hidden" : "note bad"} role="status">
          {problem}
        </p>
        <button class="primary" disabled={isBusy}>
          {isBusy ? words.loggingIn : words.login}
        </button>
        <footer>
          <Choices />
        </footer>
      </form>
    </main>
  )
}
