/**
 * A `ConnectionSource` without a server: does what the script says and counts what is asked of it.
 *
 * Its connections live like any others, in the scope they were opened in, and are numbered from 1.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as SqlClient from "effect/sql/SqlClient"
import * as Statement from "effect/sql/Statement"
import type { ConnectionError } from "../connection/ConnectionError.ts"
import { ConnectionSource, Role, type State } from "../connection/ConnectionSource.ts"

/** What the connection of a number does. Everything succeeds at once where nothing is said. */
export interface Script {
  readonly open?: ((connection: number) => Effect.Effect<void, ConnectionError>) | undefined
  readonly check?: ((connection: number) => Effect.Effect<void, ConnectionError>) | undefined
  readonly reset?: ((connection: number) => Effect.Effect<void, ConnectionError>) | undefined
  readonly state?: ((connection: number) => State) | undefined
  readonly expel?: ((connection: number) => Effect.Effect<void>) | undefined
  readonly close?: ((connection: number) => Effect.Effect<void>) | undefined
}

/** What happened so far, in order: `open 1`, `lend 1`, `reset 1`, `close 1`, …; for a role `open 1 as alice`. */
export interface Log {
  readonly events: ReadonlyArray<string>
}

/** A source that follows the script. */
export const make = Effect.fnUntraced(function* (script: Script = {}) {
  const events: Array<string> = []
  const note = (event: string) => Effect.sync(() => events.push(event))
  const nothing = Effect.die(new Error("A scripted connection has no server to send statements to"))
  const sql = yield* SqlClient.make({
    acquirer: nothing,
    compiler: Statement.makeCompilerSqlite(),
    driver: "scripted",
    spanAttributes: []
  }).pipe(Effect.provide(Reactivity.layer))
  let count = 0

  const source = ConnectionSource.of({
    name: "script",
    open: Effect.flatMap(Role, (role) => {
      const number = ++count
      const opened = note(role === undefined ? `open ${number}` : `open ${number} as ${role}`)
      return Effect.acquireRelease(Effect.andThen(script.open?.(number) ?? Effect.void, opened), () =>
        Effect.andThen(script.close?.(number) ?? Effect.void, note(`close ${number}`))
      ).pipe(
        Effect.as({
          id: String(number),
          lend: () =>
            Effect.acquireRelease(
              Effect.as(note(`lend ${number}`), { sql: Effect.succeed(sql), services: Context.empty() }),
              () => note(`back ${number}`)
            ),
          check: Effect.andThen(note(`check ${number}`), script.check?.(number) ?? Effect.void),
          reset: Effect.andThen(note(`reset ${number}`), script.reset?.(number) ?? Effect.void),
          state: () => script.state?.(number) ?? "usable",
          // Nothing is ever said on it: it counts as heard of.
          heardAt: () => Infinity,
          expel: () => Effect.andThen(note(`expel ${number}`), script.expel?.(number) ?? Effect.void)
        })
      )
    })
  })
  return { source, log: { events } satisfies Log as Log }
})

/** The layer of a source made before. */
export const layer = (source: ConnectionSource["Service"]): Layer.Layer<ConnectionSource> =>
  Layer.succeed(ConnectionSource, source)
