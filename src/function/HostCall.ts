/**
 * What the program gives scripts to call: nothing, unless it is named here.
 *
 * A call lives in the scope of its execution. It is interrupted with it, after the script was stopped and before the sandbox is
 * released, so that what it holds is given back in order.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import * as LogEvent from "../lifetime/internal/LogEvent.ts"

/** A call by its JSON texts. Made with {@link make}. */
export interface HostCall<R = never> {
  readonly call: (args: string) => Effect.Effect<string, CallRefused, R>
}

/** What the script is told: it is thrown where the call is awaited. */
export class CallRefused extends Schema.TaggedError<CallRefused>("holdfast/function/HostCall/CallRefused")(
  "CallRefused",
  { problem: Schema.String }
) {
  override get message(): string {
    return this.problem
  }
}

/** What a call takes, answers and does. */
export interface Options<Args extends ReadonlyArray<unknown>, A, E, R> {
  /** What the script passes, in JSON. Anything else is refused before `run` sees it. */
  readonly args: Schema.Codec<Args, ReadonlyArray<Schema.Json>>
  readonly success: Schema.Codec<A, Schema.Json>
  readonly run: (args: NoInfer<Args>) => Effect.Effect<A, E, R>
}

/**
 * Makes a call for scripts.
 *
 * **Gotchas**
 *
 * The message of an error reaches the script. A defect does not: it is told to the log.
 */
export const make = <Args extends ReadonlyArray<unknown>, A, E, R>({
  args,
  run,
  success
}: Options<Args, A, E, R>): HostCall<R> => {
  const decode = Schema.decodeUnknownEffect(Schema.fromJsonString(args))
  const encode = Schema.encodeEffect(Schema.fromJsonString(success))
  const refused = (error: unknown) =>
    new CallRefused({ problem: error instanceof Error ? error.message : String(error) })
  return {
    call: (text) =>
      decode(text).pipe(
        Effect.flatMap((args) => run(args)),
        Effect.flatMap((value) => encode(value)),
        Effect.exit,
        Effect.flatMap((exit): Effect.Effect<string, CallRefused> => {
          if (Exit.isSuccess(exit)) return Effect.succeed(exit.value)
          if (!Cause.hasDies(exit.cause)) return Effect.failCause(Cause.map(exit.cause, refused))
          return Effect.andThen(
            LogEvent.error({ event: "function.call_failed" }, "A call of a script's failed", exit.cause),
            Effect.fail(new CallRefused({ problem: "The call failed for an internal reason." }))
          )
        })
      )
  }
}
