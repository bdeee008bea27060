/**
 * A session as its store knows it. Every time in it was decided by the store's clock.
 */
import * as Schema from "effect/Schema"
import { SessionId } from "./SessionId.ts"

/** What a login tells about the client, to show to its owner. Never trusted. */
export const Device = Schema.Struct({
  userAgent: Schema.optionalKey(Schema.String),
  ip: Schema.optionalKey(Schema.String)
})
export type Device = typeof Device.Type

export const SessionRecord = Schema.Struct({
  id: SessionId,
  /** Who is logged in; null for a visitor. */
  principal: Schema.NullOr(Schema.String),
  /** The app's data in its encoded form, and the version of its schema. */
  data: Schema.Json,
  dataVersion: Schema.Int,
  /** Counts the updates of the data, from 1. */
  version: Schema.Int,
  device: Device,
  createdAt: Schema.DateTimeUtc,
  /** The last request that presented the token, at most one touch interval old. */
  lastSeenAt: Schema.DateTimeUtc,
  /** Not enforced before this moment. */
  idleExpiresAt: Schema.DateTimeUtc,
  /** The session is over at this moment, whatever happens. */
  expiresAt: Schema.DateTimeUtc
})
export type SessionRecord = typeof SessionRecord.Type
