/**
 * The session of the ready-made service: the user who logged in, and a JSON object of the client's own.
 *
 * It lives like every session, see `Session`; calls that need one get it from `ServiceGate.Required`.
 */
import * as Schema from "effect/Schema"
import * as Session from "../session/Session.ts"
import * as ServiceGate from "./ServiceGate.ts"
import * as SessionMiddleware from "../http/SessionMiddleware.ts"

export class ServiceSession extends Session.Service<ServiceSession>()(ServiceGate.id, {
  data: Schema.Record(Schema.String, Schema.Json),
  initial: {}
}) {}

/** The middleware of the service; the cookie is `SessionCookie.Current` of the layers. */
export const Http = SessionMiddleware.make(ServiceSession)
