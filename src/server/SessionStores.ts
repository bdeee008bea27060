/**
 * Where the service keeps its sessions: in PostgreSQL with its other tables, or in Redis.
 *
 * A store lives as long as its layer, and is built also while its server is away.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as PgSessionStore from "../postgres/PgSessionStore.ts"
import type { SessionStore } from "../session/SessionStore.ts"
import type { Databases } from "./Databases.ts"
import * as OptionalPeer from "./OptionalPeer.ts"
import type { Settings } from "./Settings.ts"

/** The store that the settings name; `maxConnections` is for PostgreSQL. */
export const layer = (
  { redisUrl, sessionKeys: keys }: Settings,
  { own }: Databases,
  options: { readonly maxConnections?: number } = {}
): Layer.Layer<SessionStore, OptionalPeer.PeerMissing> =>
  Option.match(redisUrl, {
    onNone: () => PgSessionStore.layer({ url: own, keys, ...options }),
    onSome: (url) =>
      OptionalPeer.load(() => import("../redis/RedisSessionStore.ts"), "redis").pipe(
        Effect.map((RedisSessionStore) => RedisSessionStore.layer({ url, keys })),
        Layer.unwrap
      )
  })

/** Makes what the store needs in its database. Redis needs nothing. */
export const migrate = ({ redisUrl }: Settings, { own }: Databases) =>
  Option.isSome(redisUrl) ? Effect.void : PgSessionStore.migrate({ url: own })
