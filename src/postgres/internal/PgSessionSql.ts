/**
 * The statements of `PgSessionStore`.
 */
import { createHash } from "node:crypto"
import * as PgSessionLoginSql from "./PgSessionLoginSql.ts"
import {
  columns,
  endOf,
  graceEnd,
  isAccepted,
  isReplaced,
  isDue,
  isLive,
  isStillLive,
  millis,
  onPrimary,
  over,
  pruneBefore,
  state
} from "./PgSessionSqlParts.ts"

/** The channel on which the ends of a schema's sessions are told; the server allows 63 bytes. */
export const channelOf = (schema: string): string =>
  schema.length <= 48
    ? `${schema}_session_ends`
    : `session_ends_${createHash("sha256").update(schema).digest("hex").slice(0, 32)}`

/** The statements over the tables of a schema. The caller quotes the name. */
export const make = (schema: string, channel: string) => {
  const on = over(schema, channel)
  const { ended, forgotten, locked, principals, sessions, told, tokens } = on

  /** The hashes in $1, 32 bytes each, by their place `a.place` from 0, with their tokens `t` and sessions `s`. */
  const tokensPresented = `generate_series(0, length($1::bytea) / 32 - 1) as a (place)
        left join ${tokens} t on t.hash = substr($1::bytea, a.place * 32 + 1, 32)
        left join ${sessions} s on s.id = t.session`
  const presentedState = `
          case when s.id is null then 'missing'
               when ${isLive("s", "now()")} and (${isReplaced("t")} or t.valid_until <= now()) then 'superseded'
               else ${state("s", "now()")} end`
  const nonceIfDue = "case when t.issued_at + s.renew_every <= now() then t.nonce end"

  /**
   * $1 hashes; a row for each: its state, whether activity is still owed, what is asked for, and its place. One
   * statement finds the sessions, says what they are and writes what is due: the activity, and the end of grace for the
   * token before. It waits for nobody: a row that somebody else is writing is skipped and owed, as is one that a login
   * has written since this began, whose old tokens are dead and stay so.
   */
  const present = (asked: string) => `
      with found as materialized (
        select a.place, s.*, t.hash, t.predecessor, ${nonceIfDue} as renewal_nonce, ${presentedState} as state
        from ${tokensPresented} where ${onPrimary}
      ), due as (
        select s.id from ${sessions} s
        where s.id in (select f.id from found f where f.state = 'live' and ${isDue("f")})
          and ${isStillLive("s", "now()")} and ${isDue("s")}
        for no key update skip locked
      ), touched as (
        update ${sessions} s set last_seen_at = now() from due where s.id = due.id returning s.id, s.last_seen_at
      ), renewed as (
        select t.hash, p.hash as predecessor from ${tokens} t join ${tokens} p on p.hash = t.predecessor
        where t.hash in (select f.hash from found f where f.state = 'live' and f.predecessor is not null)
          and ${isAccepted("t", "clock_timestamp()")}
        for no key update skip locked
      ), graced as (
        update ${tokens} p set valid_until = ${graceEnd} from renewed where p.hash = renewed.predecessor
      ), presented as (
        update ${tokens} t set predecessor = null from renewed where t.hash = renewed.hash returning t.hash
      )
      select f.state, f.state = 'live' and (${isDue("f")} and touched.id is null
          or f.predecessor is not null and presented.hash is null) as owed ${asked}, f.place
      from found f left join touched on touched.id = f.id left join presented on presented.hash = f.hash`

  return {
    ...PgSessionLoginSql.make(on, channel),
    /** As {@link load}, but writes nothing: what is due is owed. */
    find: `
      select ${presentedState} as state, ${isDue("s")} or t.predecessor is not null as owed,
        ${columns("s", undefined, nonceIfDue)}, s.xmin::text as stamp, a.place
      from ${tokensPresented} where ${onPrimary}`,
    /** Of {@link find}, only what tells whether the record is still the same. */
    confirm: `
      select ${presentedState} as state, ${isDue("s")} or t.predecessor is not null as owed, s.xmin::text as stamp,
        ${nonceIfDue} as renewal_nonce, a.place
      from ${tokensPresented} where ${onPrimary}`,
    /** With the record. */
    load: present(`, ${columns("f", "coalesce(touched.last_seen_at, f.last_seen_at)", "f.renewal_nonce")}`),
    /** Without it. */
    touch: present(""),

    /** $1 hash. Writes what is due, after the present writer of the rows. */
    settle: `
      with held as materialized (${locked("s.id, t.hash, t.predecessor")}
      ), graced as (
        update ${tokens} p set valid_until = ${graceEnd} from held where p.hash = held.predecessor
      ), presented as (
        update ${tokens} t set predecessor = null from held where t.hash = held.hash and held.predecessor is not null
      )
      update ${sessions} s set last_seen_at = now() from held where s.id = held.id and ${isDue("s")}`,

    /** $1 hash, $2 the next one, $3 nonce. No row when it was not done: then {@link refusal} says why. */
    renew: `
      with held as materialized (
        ${locked("s.*, t.hash, t.predecessor, t.successor", "and coalesce(t.successor, $2::bytea) = $2::bytea")}
      ), made as (
        insert into ${tokens} (hash, session, issued_at, nonce, predecessor)
        select $2::bytea, id, clock_timestamp(), $3, hash from held where successor is null
      ), chained as (
        update ${tokens} t set successor = $2::bytea, predecessor = null from held
        where t.hash = held.hash and held.successor is null
      ), graced as (
        update ${tokens} p set valid_until = ${graceEnd} from held where p.hash = held.predecessor
      ), ${forgotten("held")}
      select ${columns("held")} from held`,

    /** $1 id, $2 idle and $3 absolute timeout in milliseconds. No row when it was not done: then {@link standing} says why. */
    setExpiry: `
      update ${sessions} s set idle_timeout = ${millis("$2")}, expires_at = clock_timestamp() + ${millis("$3")},
        last_seen_at = clock_timestamp()
      where s.id = $1 and ${isStillLive("s", "clock_timestamp()")}
      returning ${columns("s")}`,

    /** $1 hash. Why nothing can be done with a token. */
    refusal: `
      select case ${state("s", "clock_timestamp()")} when 'live' then 'superseded' else ${state("s", "clock_timestamp()")} end
      from ${tokens} t join ${sessions} s on s.id = t.session where t.hash = $1`,

    /** $1 id, $2 version, $3 data, $4 its version. No row when it was not done: then {@link standing} says why. */
    update: `
      update ${sessions} s set data = $3::json, data_version = $4, version = s.version + 1
      where s.id = $1 and s.version = $2 and ${isStillLive("s", "clock_timestamp()")}
      returning ${columns("s")}`,

    /**
     * $1 ids, $2 versions, $3 data, $4 their versions. {@link update} for many, but not where it would have to wait. A
     * row for each: the record if it was done, whether it is too late for it, and its place from 0.
     */
    updateFree: `
      with asked as materialized (
        select * from unnest($1::text[], $2::int[], $3::text[], $4::int[])
          with ordinality as a (id, version, data, data_version, place)
      ), free as materialized (
        select s.id, a.data, a.data_version, a.place from asked a join ${sessions} s on s.id = a.id
        where s.version = a.version and ${isStillLive("s", "now()")}
        for no key update of s skip locked
      ), written as (
        update ${sessions} s set data = free.data::json, data_version = free.data_version, version = s.version + 1
        from free where s.id = free.id
        returning ${columns("s")}, free.place
      )
      select w.*, s.version > a.version and ${isStillLive("s", "now()")}, a.place - 1
      from asked a left join written w on w.place = a.place left join ${sessions} s on s.id = a.id`,

    /** $1 id. */
    standing: `select ${state("s", "clock_timestamp()")} from ${sessions} s where s.id = $1`,

    /** $1 id. A row if it was live. Asks for the reason and not the end, for why see {@link isStillLive}. */
    revoke: `
      with ${ended("s.id = $1 and s.end_reason is null", "revoked")},
      ${told("ended where end_reason <> 'expired'")} select id from told`,

    /** $1 principal, $2 an id to spare, or null. */
    revokeAll: `
      with ${ended("s.principal = $1 and s.id is distinct from $2::text and s.ended_at is null", "revoked with all")},
      ${told("ended where end_reason <> 'expired'")} select id from told`,

    /** $1 principal. */
    list: `
      select ${columns("s")} from ${sessions} s where s.principal = $1 and ${isLive("s", "now()")} and ${onPrimary}
      order by s.created_at desc, s.id desc`,

    /**
     * $1 the id to go on after, or null, $2 how many rows to look at. The id of the last of these, and those of them that are
     * live sessions of visitors; a row without a session where none of them is.
     */
    visitors: `
      with seen as materialized (
        select * from ${sessions} s where s.id > coalesce($1::text, '') and ${onPrimary} order by s.id limit $2::int
      ), page as (select count(*) = $2::int as is_full, max(id) as last from seen)
      select page.is_full, page.last, ${columns("s")}
      from page left join seen s on s.principal is null and ${isLive("s", "now()")} order by s.id`,

    /** $1 ids. Those that are not live, also those that nobody remembers. */
    endedOf: `
      select a.id from unnest($1::text[]) as a (id) left join ${sessions} s on s.id = a.id
      where (s.id is null or not ${isLive("s", "now()")}) and ${onPrimary}`,

    /**
     * $1 limit, $2 the end from which on to look, or null: what was pruned is long in the way of a search from the beginning. How
     * many were pruned, the end of the last one, and the milliseconds that it took. Sessions that another instance is
     * pruning at this moment are left to it. With the last session of a principal goes what is known of that one, unless
     * its sessions were revoked not long ago. Nobody waits for it to be safe on the disk.
     */
    prune: `
      with old as materialized (
        select s.id, s.principal, ${endOf("s")} as at from ${sessions} s
        where ${endOf("s")} >= coalesce($2::timestamptz, '-infinity') and ${endOf("s")} < ${pruneBefore}
        order by ${endOf("s")} limit $1::bigint
        for update skip locked
      ), pruned as (
        delete from ${sessions} s where s.id = any (array(select id from old)) returning s.id
      ), idle as materialized (
        select p.principal from ${principals} p
        where p.principal in (select o.principal from old o) and (p.revoked_at is null or p.revoked_at < ${pruneBefore})
          and not exists (
            select from ${sessions} l
            where l.principal = p.principal and l.ended_at is null and l.expires_at >= ${pruneBefore})
        for update skip locked
      ), gone as (
        delete from ${principals} p where p.principal in (select principal from idle) returning p.principal
      )
      select sessions.count::int, last.at::text, (extract(epoch from clock_timestamp() - now()) * 1000)::float8
      from (select count(*) from pruned) as sessions, (select count(*) from gone) as principals,
        (select max(at) as at from old) as last, (select set_config('synchronous_commit', 'off', true)) as commit`,
    /** $1 limit. Epochs that no login can have seen the beginning of. */
    prunePrincipals: `
      with old as materialized (
        select p.principal, exists (
          select from ${sessions} s where s.principal = p.principal and s.ended_at is null) as used
        from ${principals} p where p.revoked_at < ${pruneBefore} order by p.revoked_at limit $1::bigint
        for update skip locked
      ), kept as (
        update ${principals} p set revoked_at = null from old where p.principal = old.principal and old.used
      )
      delete from ${principals} p using old where p.principal = old.principal and not old.used`,
    /** $1 as $2 of {@link prune}. Milliseconds since the oldest tombstone could have been pruned; null when there is none. */
    pruneLag: `
      select (extract(epoch from ${pruneBefore} - min(${endOf("s")})) * 1000)::float8 from ${sessions} s
      where ${endOf("s")} >= coalesce($1::timestamptz, '-infinity') and ${onPrimary}`,

    /** The moment, where the tables are there. */
    ping: `select now() from (select from ${sessions} limit 0) s right join (values (1)) v on true where ${onPrimary}`
  }
}
