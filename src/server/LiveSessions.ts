/**
 * How many sessions live, in the store that all instances share: counted once a minute while the layer is there.
 *
 * Where the store does not answer, the metric is not there until it does.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as SqlClient from "effect/sql/SqlClient"
import * as PgSessionCount from "../postgres/internal/PgSessionCount.ts"
import * as OptionalPeer from "./OptionalPeer.ts"
import type { Settings } from "./Settings.ts"

const live = Metric.gauge("holdfast_sessions_live", {
  description: "Sessions that live in the store, a minute ago at most; of very many an estimate"
})

/** Between two counts. A store that was away, or has no tables yet, is asked again sooner. */
const interval = Duration.minutes(1)
const soon = Duration.seconds(2)

/** Goes on for as long as the scope is open. */
export const watch = <E>(count: Effect.Effect<number, E>) =>
  Effect.gen(function* () {
    const context = yield* Effect.context<never>()
    yield* Effect.addFinalizer(() => Effect.sync(() => Metric.removeUnsafe(live, context)))
    const look = Effect.matchCauseEffect(count, {
      onSuccess: (found) => Effect.as(Metric.update(live, found), interval),
      onFailure: () => Effect.as(Metric.remove(live), soon)
    })
    yield* Effect.forkScoped(Effect.forever(Effect.flatMap(look, Effect.sleep)))
  })

/** Counts in Redis on a connection of its own, and in PostgreSQL on those of the client in context. */
export const layer = ({
  redisUrl
}: Pick<Settings, "redisUrl">): Layer.Layer<never, OptionalPeer.PeerMissing, SqlClient.SqlClient> =>
  Option.match(redisUrl, {
    onNone: () =>
      Layer.effectDiscard(
        Effect.flatMap(SqlClient.SqlClient, (sql) =>
          watch(Effect.provideService(PgSessionCount.read(), SqlClient.SqlClient, sql))
        )
      ),
    onSome: (url) =>
      Layer.effectDiscard(
        Effect.flatMap(
          OptionalPeer.load(() => import("../redis/internal/RedisSessionCount.ts"), "redis"),
          (RedisSessionCount) => Effect.flatMap(RedisSessionCount.make({ url }), watch)
        )
      )
  })
