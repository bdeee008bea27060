/**
 * Values as the calls of the API send them, and as OpenAPI describes them.
 */
import * as OpenApi from "effect/http-api/OpenApi"
import * as Schema from "effect/Schema"
import * as SchemaTransformation from "effect/SchemaTransformation"

/** A moment, such as `2026-11-29T17:00:00.000Z` (RFC 3339). */
export const Timestamp = Schema.String.annotate({ format: "date-time" }).pipe(
  Schema.decodeTo(Schema.DateTimeUtc, SchemaTransformation.dateTimeUtcFromString)
)

/** How many a call answers at most. */
export const limit = (most: number) =>
  Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: most })))

/** What OpenAPI says of a call. */
export const about = (summary: string, description: string) => OpenApi.annotations({ summary, description })

interface Operation {
  readonly parameters: ReadonlyArray<{ readonly name: string }>
}

/** As {@link about}, for a call with a {@link limit}: it is a number, and not digits that look in a certain way. */
export const aboutLimited = (summary: string, description: string, most: number, usual: number) => {
  const schema = { type: "integer", minimum: 1, maximum: most, default: usual }
  const transform = <A extends object>(operation: A) => ({
    ...operation,
    parameters: (operation as A & Operation).parameters.map((parameter) =>
      parameter.name === "limit" ? { ...parameter, schema } : parameter
    )
  })
  return OpenApi.annotations({ summary, description, transform })
}
