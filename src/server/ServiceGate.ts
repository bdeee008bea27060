/**
 * The gate of the calls that need a session, as `HttpApi` knows it: a schema only, so that a client in a browser can have the API
 * without the engine of sessions. `ServiceSession` is what stands behind it.
 */
import * as HttpApiMiddleware from "effect/http-api/HttpApiMiddleware"
import * as HttpApiSecurity from "effect/http-api/HttpApiSecurity"
import type * as SessionMiddleware from "../http/SessionMiddleware.ts"
import * as SessionProblem from "../http/SessionProblem.ts"
import type { ServiceSession } from "./ServiceSession.ts"

/** The key of the session's class, which is that of its gate. */
export const id = "holdfast/server/ServiceSession"

/** What a call in the browser needs no layer for: the cookie goes by itself. */
export const Required: SessionMiddleware.RequiredClass<ServiceSession, typeof id> = HttpApiMiddleware.Service<
  SessionMiddleware.Required<ServiceSession>,
  { provides: ServiceSession }
>()(`${id}/Required`, {
  error: SessionProblem.required,
  // The description of the API names the one that the service has.
  security: { cookie: HttpApiSecurity.apiKey({ key: "__Host-holdfast", in: "cookie" }) }
})
