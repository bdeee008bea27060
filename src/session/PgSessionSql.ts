/**
 * The statements of `PgSessionStore`.
 *
 * **Details**
 *
 * The database's clock decides everything, in `timestamptz` and in intervals without days, so that no time zone and no
 * daylight saving has a say. A statement that may wait for a lock asks `clock_timestamp()`, which is read again when the
 * row is looked at again after the wait; one that never waits asks `now()`.
 */
import * as Duration from "effect/Duration"
import * as SessionTimes from "./SessionTimes.ts"

const interval = (duration: Duration.Duration) => `interval '${Duration.toMillis(duration)} milliseconds'`
const millis = (parameter: string) => `${parameter}::float8 * interval '1 millisecond'`

const touchInterval = (s: string) =>
  `least(${s}.idle_timeout / ${SessionTimes.touchShare}, ${interval(SessionTimes.longestTouchInterval)})`

const isInTime = (s: string, at: string) =>
  `(${at} < ${s}.expires_at and ${at} < ${s}.last_seen_at + ${s}.idle_timeout + ${touchInterval(s)})`

const isLive = (s: string, at: string) => `(${s}.ended_at is null and ${isInTime(s, at)})`

const isDue = (s: string) => `${s}.last_seen_at < now() - ${touchInterval(s)}`

const state = (s: string, at: string) => `
  case when ${s}.ended_at is not null then 'revoked'
       when not ${isInTime(s, at)} then 'expired'
       else 'live' end`

/** What `PgSessionRow.record` reads, in its order. */
const columns = (s: string, lastSeenAt = `${s}.last_seen_at`) => `
  ${s}.id, ${s}.principal, ${s}.data::text, ${s}.data_version, ${s}.version, ${s}.device::text, ${s}.created_at,
  ${lastSeenAt} as last_seen_at, least(${lastSeenAt} + ${s}.idle_timeout, ${s}.expires_at) as idle_expires_at, ${s}.expires_at`

/** The statements over the tables of a schema. The name is quoted by whoever passes it. */
export const make = (schema: string) => {
  const sessions = `${schema}.sessions`
  const tokens = `${schema}.session_tokens`
  const principals = `${schema}.principals`
  return {
    /**
     * $1 hashes; a row for each, in their order: its state, whether its touch is still owed, and the record. One
     * statement finds the sessions, says what they are and writes the activity that is due. It waits for nobody: a row
     * that somebody else is writing is skipped and owed.
     */
    load: `
      with found as materialized (
        select a.place, s.*,
          case when s.id is null then 'missing'
               when ${isLive("s", "now()")} and t.valid_until <= now() then 'missing'
               else ${state("s", "now()")} end as state
        from unnest($1::bytea[]) with ordinality as a (hash, place)
        left join ${tokens} t on t.hash = a.hash
        left join ${sessions} s on s.id = t.session
      ), due as (
        select s.id from ${sessions} s
        where s.id in (select f.id from found f where f.state = 'live' and ${isDue("f")})
          and ${isLive("s", "now()")} and ${isDue("s")}
        for no key update skip locked
      ), touched as (
        update ${sessions} s set last_seen_at = now() from due where s.id = due.id returning s.id, s.last_seen_at
      )
      select f.state, f.state = 'live' and ${isDue("f")} and touched.id is null as owed,
        ${columns("f", "coalesce(touched.last_seen_at, f.last_seen_at)")}
      from found f left join touched on touched.id = f.id
      order by f.place`,

    /** $1 hash. Writes the activity if it is due, after whoever is writing the row. */
    touch: `
      update ${sessions} s set last_seen_at = now() from ${tokens} t
      where t.hash = $1 and s.id = t.session and ${isLive("s", "clock_timestamp()")} and ${isDue("s")}`,

    /** $1 principal. No row when nobody made one yet: then {@link addPrincipal}, and again. */
    lockPrincipal: `select 1 from ${principals} where principal = $1 for no key update`,
    addPrincipal: `insert into ${principals} (principal) values ($1) on conflict do nothing`,

    /**
     * $1 id, $2 principal, $3 data, $4 its version, $5 device, $6 idle and $7 absolute timeout in milliseconds, $8 hash,
     * $9 how many other sessions the principal may keep.
     */
    create: `
      with moment as materialized (select clock_timestamp() as at), displaced as (
        update ${sessions} s set ended_at = moment.at, end_reason = 'displaced' from moment
        where ${isLive("s", "moment.at")} and s.id in (
          select l.id from ${sessions} l, moment m
          where l.principal = $2::text and ${isLive("l", "m.at")}
          order by l.created_at desc, l.id desc offset $9::int)
      ), made as (
        insert into ${sessions} as s (id, principal, data, data_version, version, device, created_at, last_seen_at,
          idle_timeout, expires_at)
        select $1, $2::text, $3::json, $4, 1, $5::json, at, at, ${millis("$6")}, at + ${millis("$7")} from moment
        returning ${columns("s")}
      ), presented as (
        insert into ${tokens} (hash, session) select $8::bytea, id from made
      )
      select * from made`,

    /** $1 id, $2 version, $3 data, $4 its version. No row when it was not done: then {@link standing} says why. */
    update: `
      update ${sessions} s set data = $3::json, data_version = $4, version = s.version + 1
      where s.id = $1 and s.version = $2 and ${isLive("s", "clock_timestamp()")}
      returning ${columns("s")}`,

    /** $1 id. */
    standing: `select ${state("s", "clock_timestamp()")} from ${sessions} s where s.id = $1`,

    /** $1 id. A row if it was live. */
    revoke: `
      update ${sessions} s set ended_at = clock_timestamp(), end_reason = 'revoked'
      where s.id = $1 and ${isLive("s", "clock_timestamp()")} returning s.id`,

    /** $1 principal, $2 an id to spare, or null. */
    revokeAll: `
      update ${sessions} s set ended_at = clock_timestamp(), end_reason = 'revoked with all'
      where s.principal = $1 and s.id is distinct from $2::text and ${isLive("s", "clock_timestamp()")} returning s.id`,

    /** $1 principal. */
    list: `
      select ${columns("s")} from ${sessions} s where s.principal = $1 and ${isLive("s", "now()")}
      order by s.created_at desc, s.id desc`,

    /** $1 ids. Those that are not live, also those that nobody remembers. */
    ended: `
      select a.id from unnest($1::text[]) as a (id) left join ${sessions} s on s.id = a.id
      where s.id is null or not ${isLive("s", "now()")}`,

    /** $1 limit. Sessions that another instance is pruning at this moment are left to it. */
    prune: `
      with old as materialized (
        select s.id from ${sessions} s
        where coalesce(s.ended_at, s.expires_at) < now() - ${interval(SessionTimes.tombstoneAge)}
        order by coalesce(s.ended_at, s.expires_at) limit $1::bigint
        for update skip locked
      ), pruned as (
        delete from ${sessions} s where s.id = any (array(select id from old)) returning s.id
      )
      select id from pruned`,

    ping: `select 1 from ${sessions} limit 0`
  }
}
