/**
 * The calls of the service, with the types and errors that its API declares.
 *
 * A call lives until its promise settles; there is nothing to close.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpApiClient from "effect/http-api/HttpApiClient"
import { HoldfastApi } from "../../server/HoldfastApi.ts"
import { words } from "../text/text.ts"

/** The typed client; the session's cookie goes by itself. */
export const client = Effect.runSync(
  HttpApiClient.make(HoldfastApi, { baseUrl: location.origin }).pipe(Effect.provide(FetchHttpClient.layer))
)

/** A call that did not succeed, as it is shown. */
export class CallFailed extends Error {
  readonly code: string
  constructor(code: string, message: string) {
    super(message)
    this.name = "CallFailed"
    this.code = code
  }
}

interface Told {
  readonly _tag?: string
  readonly code?: string
  readonly title?: string
  readonly detail?: string
  readonly message?: string
}

let onUnauthorized: (code: string) => void = () => undefined

/** What is to be done when the service says that there is no session. */
export const whenUnauthorized = (listener: (code: string) => void): void => {
  onUnauthorized = listener
}

/** Codes of 401, of which the keeper of the session hears. */
const over = new Set(["SessionMissing", "SessionExpired", "SessionRevoked", "LoginRequired"])

/** Makes a failure of whatever a call failed with. */
export const failureOf = (told: Told): CallFailed => {
  if (told._tag === "HttpClientError") {
    return new CallFailed("Unreachable", words().refused.Unreachable)
  }
  const code = told.code ?? told._tag ?? "Failed"
  if (over.has(code)) onUnauthorized(code)
  return new CallFailed(code, told.detail ?? told.title ?? told.message ?? code)
}

/** Runs a call. Fails with {@link CallFailed}. */
export const run = async <A, E>(call: Effect.Effect<A, E>): Promise<A> => {
  const exit = await Effect.runPromiseExit(call)
  if (Exit.isSuccess(exit)) return exit.value
  throw failureOf(Cause.squash(exit.cause) as Told)
}
