/**
 * A client of server-sent events as simple as a browser's: it reads them one after the other, until the stream ends.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { Browser } from "./browser.ts"
import { eventually } from "./conditions.ts"

/** An open response. What it says is read as it comes. */
export interface Watching {
  readonly status: number
  readonly headers: Headers
  /** Everything so far, byte by byte. */
  readonly text: () => string
  readonly events: () => ReadonlyArray<Event>
  /** `true` once the service has ended the response, `false` when the connection broke. */
  readonly ended: Effect.Effect<boolean>
  readonly close: Effect.Effect<void>
}

const Event = Schema.Struct({
  id: Schema.String,
  event: Schema.String,
  data: Schema.fromJsonString(Schema.Struct({ id: Schema.String, state: Schema.String }))
})
export type Event = typeof Event.Type

const eventsOf = (text: string): ReadonlyArray<Event> =>
  text
    .split("\n\n")
    .slice(0, -1)
    .filter((block) => !block.startsWith(":"))
    .map((block) =>
      Schema.decodeUnknownSync(Event)(
        Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s).slice(0, 2)))
      )
    )

/** Asks for a stream, and closes it at the end of the scope. */
export const watch = (browser: Browser, path: string, headers: Readonly<Record<string, string>> = {}) =>
  Effect.acquireRelease(
    Effect.promise(async (): Promise<Watching> => {
      const controller = new AbortController()
      const cookie = Array.from(browser.cookies, ([name, value]) => `${name}=${value}`).join("; ")
      const response = await fetch(`${browser.url}${path}`, {
        signal: controller.signal,
        headers: { cookie, accept: "text/event-stream", ...headers }
      })
      let text = ""
      const read = async () => {
        for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) text += chunk
        return true
      }
      const reading = read().catch(() => false)
      return {
        status: response.status,
        headers: response.headers,
        text: () => text,
        events: () => eventsOf(text),
        ended: Effect.promise(() => reading),
        close: Effect.promise(async () => {
          controller.abort()
          await reading
        })
      }
    }),
    ({ close }) => close
  )

/** The events of a query. */
export const watchQuery = (browser: Browser, id: string, headers?: Readonly<Record<string, string>>) =>
  watch(browser, `/queries/${id}/events`, headers)

/** Waits until so many states were told, and tells them. */
export const states = ({ events }: Watching, count: number) =>
  eventually(
    Effect.sync(() => events().map(({ data }) => data.state)),
    ({ length }) => length >= count
  )
