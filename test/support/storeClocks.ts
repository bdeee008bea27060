/**
 * Session and function stores whose clock a test moves. Nothing that is stored changes when it moves, so what a store
 * remembers stays remembered.
 */
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/testing/TestClock"
import { RedisClock } from "../../src/redis/internal/RedisClock.ts"
import type * as RedisSessionStore from "../../src/redis/RedisSessionStore.ts"
import * as PgSessionStore from "../../src/postgres/PgSessionStore.ts"
import { SessionStore } from "../../src/session/SessionStore.ts"
import * as SessionStoreLaws from "../../src/testing/SessionStoreLaws.ts"
import { freshDatabase } from "./postgres.ts"
import { client, freshPrefix, redisUrl } from "./redis.ts"
import * as RedisSessions from "./redisSessions.ts"
import { inZone, instance, unprunedStore } from "./sessions.ts"

/** Functions that stand before those of the database, and tell its time and what the test has added. */
const clock = `
  create schema clock;
  create table clock.ahead (by interval not null);
  insert into clock.ahead values ('0');
  create function clock.now() returns timestamptz stable language sql
    as 'select pg_catalog.now() + by from clock.ahead';
  create function clock.clock_timestamp() returns timestamptz volatile language sql
    as 'select pg_catalog.clock_timestamp() + by from clock.ahead';
  grant usage on schema clock to public;
  grant select on clock.ahead to public`

/** A database with a clock of its own, which every connection with the URL goes by. */
export const clockDatabase = Effect.gen(function* () {
  const { url } = yield* freshDatabase
  const connection = yield* PgConnection.make({ url, applicationName: "test" })
  yield* Effect.forEach(clock.split(";"), (statement) => connection.query(statement), { discard: true })
  const advance = (by: Duration.Input) =>
    Effect.asVoid(
      connection.query("update clock.ahead set by = by + $1::float8 * interval '1 millisecond'", [
        Duration.toMillis(by)
      ])
    )
  /** The connections of an instance, in a time zone. */
  const by = (zone: string) => {
    const changed = new URL(Redacted.value(inZone(url, zone)))
    const settings = changed.searchParams.get("options") ?? ""
    changed.searchParams.set("options", `${settings} -c search_path=clock,pg_catalog,public`)
    return Redacted.make(changed.href)
  }
  return { url, connection, advance, by }
})

/** A store in memory, whose time is the test's. */
export const memory = Layer.effect(
  SessionStoreLaws.World,
  Effect.map(SessionStore, (store) => ({ store, another: store, advance: TestClock.adjust }))
).pipe(Layer.provide(unprunedStore))

/** Two instances on a database, which live in different time zones. */
export const postgres = (keysOf: (instance: number) => Partial<PgSessionStore.Options> = () => ({})) =>
  Layer.effect(
    SessionStoreLaws.World,
    Effect.gen(function* () {
      const { advance, by, url } = yield* clockDatabase
      yield* PgSessionStore.migrate({ url })
      const store = yield* instance({ url: by("Asia/Tokyo"), ...keysOf(0) })
      const another = yield* instance({ url: by("America/New_York"), ...keysOf(1) })
      return { store, another, advance }
    })
  )

/** Two instances on keys of their own. */
export const redis = (keysOf: (instance: number) => Partial<RedisSessionStore.Options> = () => ({})) =>
  Layer.effect(
    SessionStoreLaws.World,
    Effect.gen(function* () {
      const prefix = yield* freshPrefix
      const url = yield* redisUrl
      const { send } = yield* client()
      const key = `clock of ${prefix}`
      yield* Effect.addFinalizer(() => Effect.ignore(send("DEL", key)))
      const lua = `(function()
  local moment, ahead = redis.call('TIME'), tonumber(redis.call('GET', '${key}') or 0)
  return { tostring(tonumber(moment[1]) + math.floor(ahead / 1000)), tostring(tonumber(moment[2]) + ahead % 1000 * 1000) }
end)()`
      const made = (index: number) =>
        Effect.provideService(RedisSessions.instance({ url, prefix, ...keysOf(index) }), RedisClock, lua)
      return {
        store: yield* made(0),
        another: yield* made(1),
        advance: (by: Duration.Input) => Effect.asVoid(send("INCRBY", key, String(Math.round(Duration.toMillis(by)))))
      }
    })
  )
