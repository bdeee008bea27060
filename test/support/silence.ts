/**
 * What a network does that forgets its connections: everything open is silent, everything new works.
 */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"

/** What came of asking all the time, in milliseconds since the death. */
export interface Aftermath {
  /** The first answer that was right, of those asked for after the death. */
  readonly firstSuccess: number
  /** The last one that was not; 0 when there was none. */
  readonly lastFailure: number
  readonly failures: number
  readonly messages: ReadonlySet<string>
}

/** Asks for so long, several at a time, without a rest after an answer but a moment. */
export const aftermath = <E>(
  operation: Effect.Effect<unknown, E>,
  { among = 8, millis = 7000 }: { readonly among?: number; readonly millis?: number } = {}
): Effect.Effect<Aftermath> =>
  Effect.gen(function* () {
    const began = performance.now()
    const since = () => performance.now() - began
    let firstSuccess = Infinity
    let lastFailure = 0
    let failures = 0
    const messages = new Set<string>()
    const one = Effect.matchEffect(operation, {
      onSuccess: () => Effect.sync(() => void (firstSuccess = Math.min(firstSuccess, since()))),
      onFailure: (error) =>
        Effect.sync(() => {
          lastFailure = since()
          failures++
          messages.add(error instanceof Error ? error.message : String(error))
        })
    })
    const worker = Effect.repeat(Effect.andThen(one, Effect.sleep("20 millis")), { while: () => since() < millis })
    yield* Effect.all(
      Array.from({ length: among }, () => worker),
      { concurrency: "unbounded", discard: true }
    )
    return { firstSuccess: Math.round(firstSuccess), lastFailure: Math.round(lastFailure), failures, messages }
  })

/** Shows a figure to whoever asks for it with `HOLDFAST_FIGURES=1`. */
export const tell = (figure: string) => {
  if (process.env["HOLDFAST_FIGURES"] !== undefined) process.stdout.write(`${figure}\n`)
}

/** All is well within five seconds, and until then nobody is told anything but that it is not. */
export const found = (room: string, { failures, firstSuccess, lastFailure, messages }: Aftermath, message: RegExp) => {
  const told = `${room}: first success ${firstSuccess} ms, ${failures} failures, the last at ${lastFailure} ms`
  tell(told)
  assert.isBelow(firstSuccess, 5000, told)
  assert.isBelow(lastFailure, 5000, told)
  for (const text of messages) assert.match(text, message)
}
