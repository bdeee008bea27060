/**
 * The frame around every view: navigation, who is logged in and for how long, and the status line.
 */
import type { ComponentChildren } from "preact"
import { useState } from "preact/hooks"
import type { Snapshot } from "../../browser/SessionState.ts"
import { feed } from "../api/feed.ts"
import { isOver } from "../api/queries.ts"
import { useWords } from "../text/text.ts"
import { countdown } from "../text/times.ts"
import { Choices } from "./Choices.tsx"
import { useNow } from "./clock.ts"
import { Mark, ViewIcon } from "./icons.tsx"
import { linkTo, route, views } from "./router.ts"
import { session } from "./session.ts"
import { sayError, status } from "./status.ts"
import { useStore } from "./store.ts"

const Left = () => {
  const words = useWords()
  useNow(1000)
  const left = countdown(session.remaining())
  return (
    <span class="left" title={words.leftLong(left)}>
      <span class="hidden">{words.left} </span>
      {left}
    </span>
  )
}

const Account = ({ principal }: { readonly principal: string }) => {
  const words = useWords()
  const [isLeaving, setLeaving] = useState(false)
  const leave = async () => {
    setLeaving(true)
    await session.logout().catch(sayError)
    setLeaving(false)
  }
  return (
    <div class="account">
      <div class="who">
        <span>
          <span class="hidden">{words.loggedInAs} </span>
          {principal}
        </span>
        <Left />
      </div>
      <div class="choices">
        <Choices />
      </div>
      <button class="compact" disabled={isLeaving} onClick={leave}>
        {words.logout}
      </button>
    </div>
  )
}

const Navigation = () => {
  const words = useWords()
  const { view } = useStore(route)
  const running = Array.from(useStore(feed.queries).values()).filter((query) => !isOver(query)).length
  return (
    <nav class="nav" aria-label={words.navigation}>
      {views.map((name) => (
        <a key={name} href={linkTo(name)} aria-current={name === view ? "page" : undefined}>
          <ViewIcon view={name} />
          {words.views[name]}
          {name === "queries" && running > 0 && (
            <span class="n" aria-hidden="true">
              {running}
            </span>
          )}
        </a>
      ))}
    </nav>
  )
}

const StatusLine = () => {
  const { kind, text } = useStore(status)
  return (
    <p class={`status ${kind}`} role="status">
      {text}
    </p>
  )
}

export const Shell = ({
  children,
  now
}: {
  readonly now: Snapshot & { readonly status: "active" }
  readonly children: ComponentChildren
}) => {
  const words = useWords()
  return (
    <div class="shell">
      <a
        class="skip button"
        href="#main"
        onClick={(event) => (event.preventDefault(), document.getElementById("main")?.focus())}
      >
        {words.skip}
      </a>
      <header class="side">
        <div class="mark">
          <Mark />
          Holdfast
        </div>
        <Navigation />
        <Account principal={now.session.principal} />
      </header>
      <main class="main" id="main" tabIndex={-1}>
        {now.trouble !== null && (
          <p class="banner" role="alert">
            {words[now.trouble]}
          </p>
        )}
        {children}
      </main>
      <StatusLine />
    </div>
  )
}
