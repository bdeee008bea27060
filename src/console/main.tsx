/**
 * The console of Holdfast.
 *
 * It lives as long as its page. What somebody wrote is kept in the browser, so that a reload loses nothing; what the service told is
 * asked for again.
 */
import { render } from "preact"
import { lazy } from "./app/lazy.tsx"
import { feed } from "./api/feed.ts"
import { Login } from "./app/Login.tsx"
import { route } from "./app/router.ts"
import { session, sessionStore } from "./app/session.ts"
import { Shell } from "./app/Shell.tsx"
import { useStore } from "./app/store.ts"
import "./app/theme.ts"
import { useWords } from "./text/text.ts"
import { SqlView } from "./views/SqlView.tsx"
import "./style/base.css"
import "./style/shell.css"
import "./style/views.css"

const views = {
  sql: SqlView,
  queries: lazy(() => import("./views/QueriesView.tsx").then((it) => it.QueriesView)),
  functions: lazy(() => import("./views/FunctionsView.tsx").then((it) => it.FunctionsView)),
  sessions: lazy(() => import("./views/SessionsView.tsx").then((it) => it.SessionsView)),
  holdings: lazy(() => import("./views/HoldingsView.tsx").then((it) => it.HoldingsView))
} as const

// The queries are those of who is logged in.
let whose: string | null = null
session.subscribe(() => {
  const now = session.snapshot()
  const next = now.status === "active" ? now.session.id : null
  if (next === whose) return
  whose = next
  if (next === null) feed.stop()
  else feed.start()
})

const App = () => {
  const words = useWords()
  const now = useStore(sessionStore)
  const { view } = useStore(route)
  if (now.status === "active") {
    const View = views[view]
    return (
      <Shell now={now}>
        <View key={`${view} ${now.session.principal}`} />
      </Shell>
    )
  }
  if (now.status === "anonymous" || now.trouble !== null) return <Login now={now} />
  return <p class="empty">{words.loading}</p>
}

const root = document.getElementById("app")
if (root !== null) render(<App />, root)
