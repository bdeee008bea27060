/**
 * The service with its sessions in a Redis of its own. Both live as long as the scope they were started in.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { client, ownServer } from "./redis.ts"
import { advanceOf } from "./redisSessions.ts"
import * as Service from "./service.ts"

/** The variables of a service whose sessions are there. */
export const sessionsIn = (url: Redacted.Redacted): Service.Environment => ({
  HOLDFAST_SESSION_STORE: "redis",
  REDIS_URL: Redacted.value(url)
})

/** Starts Redis and the service, as `Service.startService` does. */
export const start = Effect.fnUntraced(function* (env?: Service.Environment) {
  const server = yield* ownServer()
  const redis = yield* client(Effect.succeed(server.url))
  const service = yield* Service.startService({ env: { ...sessionsIn(server.url), ...env } })
  const travel: (by: Duration.Input) => Effect.Effect<void, unknown> = advanceOf(redis, "holdfast")
  return { server, redis, service: { ...service, travel } }
})

/** As `Service.layerShared`. */
export const layerShared = (env?: Service.Environment) =>
  Layer.effect(
    Service.Demo,
    Effect.flatMap(Service.Shared, ({ login }) => login())
  ).pipe(
    Layer.provideMerge(
      Layer.effect(
        Service.Shared,
        Effect.map(start({ ...Service.manySessions, ...env }), ({ service }) => service)
      )
    )
  )
