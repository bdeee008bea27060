/** The events that the docs list. */
import { readFileSync } from "node:fs"

export interface LogEvent {
  readonly event: string
  /** E, W, I or D. */
  readonly level: string
  readonly fields: ReadonlyArray<string>
}

const rowsOf = (text: string): ReadonlyArray<LogEvent> =>
  Array.from(
    text.matchAll(/^\| `([a-z_]+\.[a-z_]+)` +\| ([EWID]) +\| ([^|]*)\|/gm),
    ([, event = "", level = "", fields = ""]) => ({
      event,
      level,
      fields: Array.from(fields.matchAll(/`(\w+)`/g), ([, name = ""]) => name)
    })
  )

const page = () => readFileSync("docs/metrics-and-logs.md", "utf8")

/** Those that name what happens outside of sessions. */
export const eventsOf = () => rowsOf(/^## Logs\n([\s\S]*?)^## /m.exec(page())?.[1] ?? "")

/** Those of the audit log. */
export const auditOf = () => rowsOf(/^## The audit log of sessions\n([\s\S]*?)^## /m.exec(page())?.[1] ?? "")
