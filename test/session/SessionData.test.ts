import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import * as SessionData from "../../src/session/SessionData.ts"

const Name = Schema.Struct({ name: Schema.String })
const codec = (options: Partial<SessionData.Options<typeof Name>> = {}) =>
  SessionData.make({ data: Name, initial: { name: "nobody" }, version: 3, ...options })

const migrations = {
  1: (old: Schema.Json) => ({ title: old }),
  2: (old: Schema.Json) => Effect.succeed({ name: String((old as { readonly title: string }).title) })
}
const outcome = (
  effect: Effect.Effect<SessionData.Read<typeof Name.Type>, { readonly reason: { readonly _tag: string } }>
) => Effect.match(effect, { onFailure: ({ reason }) => reason._tag, onSuccess: ({ value }) => value.name })

describe("SessionData", () => {
  it.effect("S13 older data is migrated, step by step, from whatever version it has", () =>
    Effect.gen(function* () {
      const data = codec({ migrations })
      assert.strictEqual(yield* outcome(data.read({ data: "ann", dataVersion: 1 })), "ann")
      assert.strictEqual(yield* outcome(data.read({ data: { title: "ann" }, dataVersion: 2 })), "ann")
      assert.strictEqual(yield* outcome(data.read({ data: { name: "ann" }, dataVersion: 3 })), "ann")
    })
  )

  it.effect("S13 data of a newer version is refused whatever the policy is", () =>
    Effect.gen(function* () {
      for (const undecodable of ["fail", "discard", "quarantine"] as const) {
        const data = codec({ undecodable })
        const error = yield* Effect.flip(data.read({ data: { name: "ann" }, dataVersion: 4 }))
        assert.strictEqual(error.reason._tag, "SessionUndecodable")
        assert.include(error.message, "version 4")
      }
    })
  )

  it.effect("S13 undecodable data follows the policy, be it wrong, without a migration, or with one that breaks", () =>
    Effect.gen(function* () {
      const broken = {
        1: () => {
          throw new Error("broken")
        },
        2: () => Effect.fail("broken, too")
      }
      const cases: ReadonlyArray<readonly [SessionData.Stored, SessionData.Options<typeof Name>["migrations"]]> = [
        [{ data: { name: 7 }, dataVersion: 3 }, migrations],
        [{ data: "ann", dataVersion: 1 }, undefined],
        [{ data: "ann", dataVersion: 1 }, broken],
        [{ data: { title: "ann" }, dataVersion: 2 }, broken],
        [{ data: { title: "ann" }, dataVersion: 2 }, { 2: () => Effect.die("broken for good") }],
        [{ data: null, dataVersion: 0 }, migrations]
      ]
      for (const [stored, migrations] of cases) {
        assert.strictEqual(yield* outcome(codec({ migrations }).read(stored)), "SessionUndecodable")
        const discarded = yield* codec({ migrations, undecodable: "discard" }).read(stored)
        assert.deepInclude(discarded, { value: { name: "nobody" }, quarantined: [] })
        assert.isString(discarded.problem)
        const quarantined = yield* codec({ migrations, undecodable: "quarantine" }).read(stored)
        assert.deepInclude(quarantined, { value: { name: "nobody" }, quarantined: [stored] })
      }
    })
  )

  it.effect("S13 a migration that is interrupted, also by itself, says nothing of the data", () =>
    Effect.gen(function* () {
      for (const undecodable of ["fail", "discard", "quarantine"] as const) {
        const data = codec({ migrations: { ...migrations, 2: () => Effect.interrupt }, undecodable })
        const exit = yield* Effect.exit(data.read({ data: { title: "ann" }, dataVersion: 2 }))
        assert.isTrue(Exit.hasInterrupts(exit), undecodable)
      }
    })
  )

  it.effect("S13 what cannot be read is told by its place, and not by what is there", () =>
    Effect.gen(function* () {
      const schema = Schema.Struct({ name: Schema.String, cards: Schema.Array(Schema.Int) })
      const stored = { data: { name: "n", cards: [1, "4111 1111"] }, dataVersion: 1 }
      const codec = (undecodable: "fail" | "discard") =>
        SessionData.make({ data: schema, initial: { name: "", cards: [] }, undecodable })
      const { message } = yield* Effect.flip(codec("fail").read(stored))
      const { problem = "" } = yield* codec("discard").read(stored)
      for (const text of [message, problem]) {
        assert.include(text, `["cards"][1]`)
        assert.notInclude(text, "4111")
      }
    })
  )

  it.effect("S13 what is in quarantine stays beside the data that is written, and no data can be taken for it", () =>
    Effect.gen(function* () {
      const data = codec({ undecodable: "quarantine" })
      const lost = { data: { name: 7 }, dataVersion: 3 }
      const first = yield* data.read(lost)
      const { stored } = yield* data.write({ name: "ann" }, first.quarantined)
      assert.deepStrictEqual(yield* data.read(stored), {
        value: { name: "ann" },
        text: '{"name":"ann"}',
        quarantined: [lost]
      })
      const next = codec({ version: 4, undecodable: "quarantine" })
      const twice = yield* next.read(stored)
      assert.deepStrictEqual(twice.quarantined, [{ data: { name: "ann" }, dataVersion: 3 }, lost])
      assert.deepStrictEqual((yield* codec({ version: 4, migrations: { 3: (old) => old } }).read(stored)).value, {
        name: "ann"
      })
      const any = SessionData.make({ data: Schema.Json, initial: null })
      const lookalike = { data: { name: "x" }, quarantined: [lost] }
      const written = yield* any.write(lookalike, [])
      assert.deepInclude(yield* any.read(written.stored), { value: lookalike, quarantined: [] })
    })
  )

  it.effect("S13 the quarantine is bounded: the oldest goes", () =>
    Effect.gen(function* () {
      const data = codec({ undecodable: "quarantine", maxBytes: 100 })
      let stored: SessionData.Stored = { data: "0".repeat(38), dataVersion: 3 }
      for (let round = 1; round <= 5; round++) {
        const read = yield* data.read(stored)
        assert.lengthOf(read.quarantined, Math.min(round, 2))
        const written = yield* data.write({ name: "x" }, read.quarantined)
        const { quarantined } = written.stored.data as unknown as {
          readonly quarantined: ReadonlyArray<SessionData.Stored>
        }
        stored = { data: { data: String(round).repeat(38), quarantined: [...quarantined] as never }, dataVersion: -3 }
      }
    })
  )

  it.effect("data that is too large, or too deep for a database to read, is refused", () =>
    Effect.gen(function* () {
      const data = SessionData.make({ data: Schema.Json, initial: null, maxBytes: 100 })
      const reason = (value: Schema.Json) =>
        Effect.match(data.write(value, []), { onFailure: ({ reason }) => reason._tag, onSuccess: () => "ok" })
      assert.strictEqual(yield* reason("x".repeat(98)), "ok")
      assert.strictEqual(yield* reason("x".repeat(99)), "SessionTooLarge")
      assert.strictEqual(yield* reason("ü".repeat(50)), "SessionTooLarge")
      const roomy = SessionData.make({ data: Schema.Json, initial: null })
      for (const [depth, expected] of [
        [100, "ok"],
        [101, "SessionInvalid"],
        [30_000, "SessionInvalid"]
      ] as const) {
        const nested = JSON.parse("[".repeat(depth) + "]".repeat(depth)) as Schema.Json
        const tag = yield* Effect.match(roomy.write(nested, []), {
          onFailure: ({ reason }) => reason._tag,
          onSuccess: () => "ok"
        })
        assert.strictEqual(tag, expected, String(depth))
      }
    })
  )

  it.effect("every reader gets data of its own, also the initial", () =>
    Effect.gen(function* () {
      const Cart = Schema.Struct({ items: Schema.mutable(Schema.Array(Schema.String)) })
      const data = SessionData.make({ data: Cart, initial: { items: [] } })
      const first = yield* data.initial
      first.value.items.push("milk")
      assert.deepStrictEqual((yield* data.initial).value.items, [])
    })
  )
})
