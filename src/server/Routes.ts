/**
 * Everything that the service answers: its calls, their description, the console, and what every request goes through.
 *
 * The routes live as long as the service, over what the service is made of.
 */
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpApiSwagger from "effect/http-api/HttpApiSwagger"
import * as Layer from "effect/Layer"
import * as ExactJson from "../http/ExactJson.ts"
import * as Preconditions from "../http/Preconditions.ts"
import * as Problem from "../http/Problem.ts"
import * as SessionCookie from "../http/SessionCookie.ts"
import * as Answers from "./Answers.ts"
import * as ConsolePage from "./ConsolePage.ts"
import * as Edge from "./Edge.ts"
import * as FunctionHandlers from "./FunctionHandlers.ts"
import * as HealthHandlers from "./HealthHandlers.ts"
import { HoldfastApi } from "./HoldfastApi.ts"
import * as Logins from "./Logins.ts"
import * as OpenApiDocument from "./OpenApiDocument.ts"
import * as OperatorHandlers from "./OperatorHandlers.ts"
import * as QueryNews from "./QueryNews.ts"
import * as QueryRoleMap from "./QueryRoleMap.ts"
import * as QueryHandlers from "./QueryHandlers.ts"
import * as QueryTimeouts from "./QueryTimeouts.ts"
import { Http } from "./ServiceSession.ts"
import * as SessionHandlers from "./SessionHandlers.ts"
import type * as Settings from "./Settings.ts"
import * as SlowReaders from "./SlowReaders.ts"

/** The routes; `origin` is where browsers find the service. */
export const layer = (settings: Settings.Settings, origin: URL) => {
  const { absoluteTimeout, idleTimeout, maxSessions, renewEvery } = settings
  const policy = { absoluteTimeout, idleTimeout, renewEvery, maxPerPrincipal: maxSessions }
  const described = OpenApiDocument.describe(HoldfastApi, { origin, cookie: SessionCookie.forOrigin(origin) })
  const api = HttpApiBuilder.layer(described, { openapiPath: "/openapi.json" }).pipe(
    Layer.provide([
      SessionHandlers.layer(policy),
      QueryHandlers.layer,
      FunctionHandlers.layer,
      OperatorHandlers.layer,
      HealthHandlers.layer
    ]),
    Layer.provide([
      Logins.layer,
      Answers.layer(settings),
      QueryNews.layer,
      Layer.succeed(QueryTimeouts.QueryTimeouts, settings.queryTimeouts),
      QueryRoleMap.layerHasRole(settings.queryRoles)
    ]),
    Layer.provide([Layer.mergeAll(Http.layerRequired, Http.middleware).pipe(Layer.orDie), Problem.layerRequests]),
    Layer.provide([Preconditions.layer, ExactJson.layer]),
    Layer.provide(SessionCookie.layerOrigin(origin))
  )
  const edge = Edge.layer(origin).pipe(Layer.provide(SlowReaders.layer(settings.writeTimeout)))
  return Layer.mergeAll(edge, api, ConsolePage.layer, HttpApiSwagger.layer(described, { path: "/docs" }))
}
