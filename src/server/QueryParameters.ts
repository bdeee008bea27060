/**
 * The parameters of a submission as they were sent: what JavaScript would change is kept as text, or refused.
 */
import * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import * as Problem from "../http/Problem.ts"
import * as Turns from "../lifetime/internal/Turns.ts"
import * as ExactJson from "../query/internal/ExactJson.ts"

const refuse = (detail: string) => Effect.fail(new Problem.RequestInvalid({ detail }))

/** Numbers that JavaScript does not keep: those that are a parameter themselves, and one within the first that holds some. */
interface Found {
  readonly alone: Map<number, string>
  within: { readonly param: number; readonly source: string } | undefined
}

/** `-0`, which JavaScript keeps and writes as `0`; the driver sends it as it is. */
const isMinusZero = (source: string) => /^-0(?:\.0*)?(?:[eE][+-]?\d+)?$/.test(source)

/** The body is an object, and in it nothing but the parameters is a list. */
const finding = (found: Found) => (source: string, places: ReadonlyArray<number>) => {
  const [, param] = places
  if (param === undefined || isMinusZero(source)) return
  if (places.length === 2) found.alone.set(param, source)
  else found.within ??= { param, source }
}

/**
 * The parameters of a body, which are `params` where JavaScript kept them. A number that is a parameter itself is its text: the
 * server reads it as the same number. The body may be long, and is read in slices.
 */
export const exactly = (
  body: string,
  params: ReadonlyArray<unknown>
): Effect.Effect<ReadonlyArray<Schema.Json>, Problem.RequestInvalid> =>
  Effect.suspend(() => {
    const found: Found = { alone: new Map(), within: undefined }
    return Effect.flatMap(Turns.run(ExactJson.scan(body, { onNumber: finding(found) })), (loss) => {
      if (loss !== undefined) return refuse(`The body cannot be read as it is meant: ${loss.problem}.`)
      const { alone, within } = found
      if (within !== undefined) {
        return refuse(
          `params[${within.param}] holds the number ${within.source.slice(0, 40)}, which JavaScript does not keep. Pass it as a string, or all of the parameter as a string of JSON.`
        )
      }
      const kept = params as ReadonlyArray<Schema.Json>
      return Effect.succeed(alone.size === 0 ? kept : kept.map((param, index) => alone.get(index) ?? param))
    })
  })
