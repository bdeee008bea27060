/**
 * What the statements of `PgSessionStore` are made of: conditions, columns, and the common table expressions that several share.
 *
 * **Details**
 *
 * The database's clock decides everything, in `timestamptz` and in intervals without days, so that no time zone and no
 * daylight saving has a say. A statement that may wait for a lock asks `clock_timestamp()`, which is read again when the
 * row is looked at again after the wait; one that never waits asks `now()`.
 */
import * as Duration from "effect/Duration"
import * as SessionTimes from "../../session/SessionTimes.ts"

export const interval = (duration: Duration.Duration) => `interval '${Duration.toMillis(duration)} milliseconds'`
export const millis = (parameter: string) => `${parameter}::float8 * interval '1 millisecond'`

export const touchInterval = (s: string) =>
  `least(${s}.idle_timeout / ${SessionTimes.touchShare}, ${interval(SessionTimes.longestTouchInterval)})`

export const isInTime = (s: string, at: string) =>
  `(${at} < ${s}.expires_at and ${at} < ${s}.last_seen_at + ${s}.idle_timeout + ${touchInterval(s)})`

export const isLive = (s: string, at: string) => `(${s}.ended_at is null and ${isInTime(s, at)})`

export const isDue = (s: string) => `${s}.last_seen_at < now() - ${touchInterval(s)}`

export const state = (s: string, at: string) => `
  case when ${s}.ended_at is null then case when ${isInTime(s, at)} then 'live' else 'expired' end
       when ${s}.end_reason = 'expired' then 'expired'
       else 'revoked' end`

/**
 * The same as {@link isLive}, for a row that a key leads to. The planner does not recognise the condition of the index of
 * live sessions in it, which it would else read from end to end where it takes them for few.
 */
export const isStillLive = (s: string, at: string) => `${state(s, at)} = 'live'`

/** One that was replaced at once has an empty nonce: it is dead for good, also when the clock is set back. */
export const isReplaced = (t: string) => `${t}.nonce = ''`
export const isAccepted = (t: string, at: string) =>
  `(not ${isReplaced(t)} and (${t}.valid_until is null or ${t}.valid_until > ${at}))`

/** What `PgSessionRow.record` reads, in its order. */
export const columns = (s: string, lastSeenAt = `${s}.last_seen_at`, nonce = "null::text") => `
  ${s}.id, ${s}.principal, ${s}.data::text, ${s}.data_version, ${s}.version, ${s}.device::text, ${s}.created_at,
  ${lastSeenAt} as last_seen_at, least(${lastSeenAt} + ${s}.idle_timeout, ${s}.expires_at) as idle_expires_at,
  ${s}.expires_at, ${nonce} as renewal_nonce, ${s}.actor`

export const graceEnd = `clock_timestamp() + ${interval(SessionTimes.renewalGrace)}`
export const pruneBefore = `now() - ${interval(SessionTimes.tombstoneAge)}`
export const endOf = (s: string) => `coalesce(${s}.ended_at, ${s}.expires_at)`

/**
 * Makes a statement that writes nothing fail on a standby (55000), which may be behind: it would let in whom the primary has
 * refused, and take for unknown whom that has let in. Asked once per statement.
 */
export const onPrimary = "(select pg_current_wal_lsn()) is not null"

/** The time of the last revocation of all, in microseconds, which a float holds exactly until the year 2255. */
export const epoch = (p: string) => `coalesce(extract(epoch from ${p}.revoked_at) * 1000000, 0)::float8`

/** The tables of a schema, which the caller quotes, and what is done with them in more than one statement. */
export const over = (schema: string, channel: string) => {
  const sessions = `${schema}.sessions`
  const tokens = `${schema}.session_tokens`
  const principals = `${schema}.principals`

  /** Tells all instances which sessions ended, when the transaction is committed. */
  const told = (ended: string) => `
      told as materialized (select id, pg_notify('${channel}', id) from ${ended})`
  const displacedIds = `coalesce((select json_agg(id) from told), '[]')::text`

  /** The session of $1, a hash, if both are live, with its row and that of the token locked, in this order. */
  const locked = (columns: string, more = "") => `
        select ${columns} from ${sessions} s join ${tokens} t on t.session = s.id
        where t.hash = $1::bytea and ${isAccepted("t", "clock_timestamp()")} and ${isStillLive("s", "clock_timestamp()")} ${more}
        for no key update of s, t`

  /** The tokens of a session that are dead for so long that nobody need be told any more. */
  const forgotten = (mine: string) => `
      forgotten as (
        delete from ${tokens} d using ${mine} where d.session = ${mine}.id and d.valid_until < ${pruneBefore}
      )`

  /** Ends sessions; those that are past their time are expired for good, also when the clock is set back. */
  const ended = (which: string, reason: string) => `
      ended as (
        update ${sessions} s set ended_at = clock_timestamp(),
          end_reason = case when ${isInTime("s", "clock_timestamp()")} then '${reason}' else 'expired' end
        where ${which} returning s.id, s.end_reason
      )`

  /**
   * The sessions of a principal that a login ends: the oldest live ones but so many, and, for good, those that are past their time,
   * which it does not count: else they would live again when the clock is set back.
   */
  const leaving = (principal: string, keep: string, but = "") => `(
          (select l.id, true as is_live from ${sessions} l, moment m
           where l.principal = ${principal} and ${isLive("l", "m.at")} ${but}
           order by l.created_at desc, l.id desc offset ${keep})
          union all
          select l.id, false from ${sessions} l, moment m
          where l.principal = ${principal} and l.ended_at is null and not ${isInTime("l", "m.at")} ${but})`
  /** Ends those that {@link leaving} has chosen, if they are as they were. Of the live ones everybody is told. */
  const displaced = (from: string) => `
      leaving as (
        update ${sessions} s set ended_at = least(moment.at, s.expires_at),
          end_reason = case when chosen.is_live then 'displaced' else 'expired' end
        from moment, ${from} chosen
        where s.id = chosen.id
          and case when s.ended_at is null then ${isInTime("s", "moment.at")} end = chosen.is_live
        returning s.id, s.principal, s.end_reason
      ), displaced as (select id, principal from leaving where end_reason = 'displaced')`

  return { sessions, tokens, principals, told, displacedIds, locked, forgotten, ended, leaving, displaced }
}
