/** What a service says of its engines, and how long queries on it take. */
import { assert } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { type Browser, run } from "./browser.ts"

const Engines = Schema.Array(
  Schema.Struct({
    name: Schema.String,
    kind: Schema.String,
    ready: Schema.Boolean,
    endsElsewhere: Schema.NullOr(Schema.Boolean),
    limits: Schema.Struct({ running: Schema.Int, runningPerUser: Schema.Int }),
    capabilities: Schema.Struct({ cancel: Schema.String, placeholder: Schema.String, roles: Schema.Boolean })
  })
)
export const enginesOf = (browser: Browser) =>
  Effect.map(browser.send("GET", "/engines"), ({ json }) => Schema.decodeUnknownSync(Engines)(json))

const Ready = Schema.Struct({
  status: Schema.Literal("ready"),
  enginesAway: Schema.optionalKey(Schema.Array(Schema.String))
})

/** The engines that a service which is ready says are away. */
export const awayOf = (browser: Browser) =>
  Effect.map(browser.send("GET", "/health/ready"), ({ json, status, text }) => {
    assert.strictEqual(status, 200, text)
    return Schema.decodeUnknownSync(Ready)(json).enginesAway ?? []
  })

/** How long each of some queries took on the first engine, in milliseconds, the longest last. */
export const timesOf = (browser: Browser, count: number) =>
  Effect.map(
    Effect.forEach(Array.from({ length: count }), () =>
      Effect.map(Effect.timed(run(browser, "select 1")), ([time, { state }]) => {
        assert.strictEqual(state, "Succeeded")
        return Math.round(Duration.toMillis(time))
      })
    ),
    (times) => times.toSorted((a, b) => a - b)
  )

export const medianOf = (times: ReadonlyArray<number>) => times[Math.floor(times.length / 2)] ?? 0
export const shown = (times: ReadonlyArray<number>) => `${medianOf(times)} and ${times.at(-1)}`
