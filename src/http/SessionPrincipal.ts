/**
 * Who is logged in, for handlers that only run for somebody who is. Lives as long as the request or call.
 */
import * as Context from "effect/Context"

/** The principal of the session, behind `loggedIn` and `fresh` of `SessionMiddleware` and `LoggedIn` of `SessionRpc`. */
export class Principal extends Context.Service<Principal, string>()("holdfast/http/SessionPrincipal") {}
