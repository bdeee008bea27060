import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/testing/TestClock"
import * as EventStream from "../../src/http/internal/EventStream.ts"

const first = { id: "1", event: "state", data: "{}" }

/** What was sent so far, and the fiber that sends. */
const sent = <E>(events: Stream.Stream<EventStream.Event, E>) =>
  Effect.gen(function* () {
    const chunks: Array<string> = []
    const fiber = yield* EventStream.encode(events).pipe(
      Stream.decodeText,
      Stream.runForEach((text) => Effect.sync(() => chunks.push(text))),
      Effect.forkChild({ startImmediately: true })
    )
    yield* TestClock.adjust(0)
    return { chunks, fiber }
  })

describe("a stream of events", () => {
  it.effect("begins with a comment, and says something every 15 seconds", () =>
    Effect.gen(function* () {
      const { chunks, fiber } = yield* sent(Stream.never)
      assert.deepStrictEqual(chunks, [":\n\n"])
      yield* TestClock.adjust("14999 millis")
      assert.lengthOf(chunks, 1)
      yield* TestClock.adjust("1 millis")
      assert.lengthOf(chunks, 2)
      yield* TestClock.adjust("15 seconds")
      assert.deepStrictEqual(chunks, [":\n\n", ":\n\n", ":\n\n"])
      yield* Fiber.interrupt(fiber)
    })
  )

  it.effect("ends with its events, also when it is silent until then", () =>
    Effect.gen(function* () {
      const last = yield* Deferred.make<EventStream.Event>()
      const { chunks, fiber } = yield* sent(Stream.concat(Stream.make(first), Stream.fromEffect(Deferred.await(last))))
      yield* Deferred.succeed(last, { ...first, id: "2", data: "a\nb" })
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(
        chunks.filter((text) => text !== ":\n\n"),
        ["id: 1\nevent: state\ndata: {}\n\n", "id: 2\nevent: state\ndata: a\ndata: b\n\n"]
      )
    })
  )

  it.effect("when its reader goes, what its events hold is released", () =>
    Effect.gen(function* () {
      const released = yield* Deferred.make<void>()
      const held = Effect.acquireRelease(Effect.void, () => Deferred.succeed(released, undefined))
      const { fiber } = yield* sent(Stream.unwrap(Effect.as(held, Stream.never)))
      yield* Fiber.interrupt(fiber)
      assert.isTrue(yield* Deferred.isDone(released))
    })
  )

  it.effect("fails with its events", () =>
    Effect.gen(function* () {
      const { fiber } = yield* sent(Stream.fail("broken"))
      assert.deepStrictEqual(yield* Fiber.await(fiber), Exit.fail("broken"))
    })
  )
})
