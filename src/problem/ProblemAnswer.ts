/**
 * What an error of Holdfast answers when it leaves a route of Effect's HTTP server: a problem (RFC 9457), never a bare 500.
 *
 * An answer lives as long as the response. HTTP is loaded when the first one is made, so that a program without HTTP never
 * loads it.
 */
import * as Effect from "effect/Effect"
import type * as HttpServerRespondable from "effect/http/HttpServerRespondable"
import type * as HttpServerResponse from "effect/http/HttpServerResponse"

/** Under which name the server finds what an error answers. */
export const symbol: typeof HttpServerRespondable.symbol = "~effect/http/HttpServerRespondable"

/** The `type` of a problem: stable, and the same for all instances of a code. */
export const typeOf = <const Code extends string>(code: Code): `urn:holdfast:problem:${Code}` =>
  `urn:holdfast:problem:${code}`

/**
 * What a 401 says of how to prove who one is (RFC 9110 11.6.1): by a session's cookie. No browser knows the scheme, so none
 * asks for a password of its own accord, as it would for `Basic`.
 */
export const challenge = 'Cookie realm="holdfast"'

/** A code with its status and title. */
export type Kind<Code extends string = string> = readonly [code: Code, status: number, title: string]

/** Says of a code what status and title it has. */
export const kind = <const Code extends string, const Status extends number>(
  code: Code,
  status: Status,
  title: string
): readonly [code: Code, status: Status, title: string] => [code, status, title]

/** What the caller is told besides the kind. */
export interface More {
  readonly detail: string
  readonly retryAfterSeconds?: number | undefined
}

/** The response of a problem. */
export const make = (
  [code, status, title]: Kind,
  { detail, retryAfterSeconds }: More
): Effect.Effect<HttpServerResponse.HttpServerResponse> =>
  Effect.map(
    Effect.promise(() => Promise.all([import("effect/http/ProblemDetails"), import("effect/http/HttpServerResponse")])),
    ([ProblemDetails, HttpServerResponse]) =>
      HttpServerResponse.setHeaders(ProblemDetails.toResponse({ type: typeOf(code), title, status, detail, code }), {
        "cache-control": "no-store",
        ...(status === 401 && { "www-authenticate": challenge }),
        ...(retryAfterSeconds !== undefined && { "retry-after": String(retryAfterSeconds) })
      })
  )

/** Why something failed, as an error of Holdfast has it. */
interface Reason {
  readonly _tag: string
  readonly message: string
  readonly retryAfterSeconds?: number
}

/** What is answered for the reason of a tag. The detail is the reason's own message, unless another is given. */
export type Table<Tag extends string> = {
  readonly [_ in Tag]: { readonly kind: Kind; readonly detail?: string | undefined } | undefined
}

/**
 * The answer of an error with this reason. Where the table has none it is left to the server, which answers 500 and tells the
 * log: it is the program's, and the caller learns nothing.
 */
export const of = <R extends Reason, E extends { readonly reason: R }>(table: Table<R["_tag"]>, error: E) => {
  const { reason } = error
  const answer = table[reason._tag as R["_tag"]]
  return answer === undefined
    ? Effect.fail(error)
    : make(answer.kind, { detail: answer.detail ?? reason.message, retryAfterSeconds: reason.retryAfterSeconds })
}
