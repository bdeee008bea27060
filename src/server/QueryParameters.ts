/**
 * The parameters of a submission as they were sent: what JavaScript would change is kept as text, or refused.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Problem from "../http/Problem.ts"
import * as ExactJson from "../query/internal/ExactJson.ts"

/** A number that JavaScript does not keep. */
class Inexact {
  readonly source: string

  constructor(source: string) {
    this.source = source
  }
}

const mark = (_: string, value: unknown, context?: { readonly source?: string }): unknown => {
  const source = context?.source
  const isInexact = typeof value === "number" && source !== undefined && !Object.is(value, -0)
  return isInexact && !ExactJson.isExactNumber(source) ? new Inexact(source) : value
}

/** Not by recursion: the body may be nested deeply. */
const inexactIn = (value: unknown): Inexact | undefined => {
  const rest = [value]
  for (let part = rest.pop(); part !== undefined; part = rest.pop()) {
    if (part instanceof Inexact) return part
    if (typeof part === "object" && part !== null) for (const each of Object.values(part)) rest.push(each)
  }
  return undefined
}

const refuse = (detail: string) => Effect.fail(new Problem.RequestInvalid({ detail }))

const Body = Schema.Struct({ params: Schema.optionalKey(Schema.Array(Schema.Unknown)) })
const decodeBody = Schema.decodeUnknownOption(Body)

/**
 * The parameters of a body, which are `params` where JavaScript kept them. A number that is a parameter itself is its text: the
 * server reads it as the same number.
 */
export const exactly = (
  body: string,
  params: ReadonlyArray<unknown>
): Effect.Effect<ReadonlyArray<Schema.Json>, Problem.RequestInvalid> => {
  const loss = ExactJson.lossOf(body, "no numbers")
  if (loss !== undefined) return refuse(`The body cannot be read as it is meant: ${loss.problem}.`)
  if (ExactJson.lossOf(body) === undefined) return Effect.succeed(params as ReadonlyArray<Schema.Json>)
  const marked = decodeBody(JSON.parse(body, mark))
  const kept: Array<Schema.Json> = []
  for (const param of marked._tag === "Some" ? (marked.value.params ?? []) : []) {
    if (param instanceof Inexact) {
      kept.push(param.source)
      continue
    }
    const inexact = inexactIn(param)
    if (inexact !== undefined) {
      return refuse(
        `params[${kept.length}] holds the number ${inexact.source.slice(0, 40)}, which JavaScript does not keep. Pass it as a string, or all of the parameter as a string of JSON.`
      )
    }
    kept.push(param as Schema.Json)
  }
  return Effect.succeed(kept)
}
