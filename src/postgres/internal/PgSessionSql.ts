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
import { createHash } from "node:crypto"
import * as SessionTimes from "../../session/SessionTimes.ts"

const interval = (duration: Duration.Duration) => `interval '${Duration.toMillis(duration)} milliseconds'`
const millis = (parameter: string) => `${parameter}::float8 * interval '1 millisecond'`

const touchInterval = (s: string) =>
  `least(${s}.idle_timeout / ${SessionTimes.touchShare}, ${interval(SessionTimes.longestTouchInterval)})`

const isInTime = (s: string, at: string) =>
  `(${at} < ${s}.expires_at and ${at} < ${s}.last_seen_at + ${s}.idle_timeout + ${touchInterval(s)})`

const isLive = (s: string, at: string) => `(${s}.ended_at is null and ${isInTime(s, at)})`

const isDue = (s: string) => `${s}.last_seen_at < now() - ${touchInterval(s)}`

const state = (s: string, at: string) => `
  case when ${s}.ended_at is null then case when ${isInTime(s, at)} then 'live' else 'expired' end
       when ${s}.end_reason = 'expired' then 'expired'
       else 'revoked' end`

/**
 * The same as {@link isLive}, for a row that a key leads to. The planner does not recognise the condition of the index of
 * live sessions in it, which it would else read from end to end where it takes them for few.
 */
const isStillLive = (s: string, at: string) => `${state(s, at)} = 'live'`

const isAccepted = (t: string, at: string) => `(${t}.valid_until is null or ${t}.valid_until > ${at})`

/** What `PgSessionRow.record` reads, in its order. */
const columns = (s: string, lastSeenAt = `${s}.last_seen_at`, nonce = "null::text") => `
  ${s}.id, ${s}.principal, ${s}.data::text, ${s}.data_version, ${s}.version, ${s}.device::text, ${s}.created_at,
  ${lastSeenAt} as last_seen_at, least(${lastSeenAt} + ${s}.idle_timeout, ${s}.expires_at) as idle_expires_at,
  ${s}.expires_at, ${nonce} as renewal_nonce, ${s}.actor`

const graceEnd = `clock_timestamp() + ${interval(SessionTimes.renewalGrace)}`
const pruneBefore = `now() - ${interval(SessionTimes.tombstoneAge)}`
const endOf = (s: string) => `coalesce(${s}.ended_at, ${s}.expires_at)`

/**
 * Makes a statement that writes nothing fail on a standby (55000), which may be behind: it would let in whom the primary has
 * refused, and take for unknown whom that has let in. Asked once per statement.
 */
const onPrimary = "(select pg_current_wal_lsn()) is not null"

/** The channel on which the ends of a schema's sessions are told; the server allows 63 bytes. */
export const channelOf = (schema: string): string =>
  schema.length <= 48
    ? `${schema}_session_ends`
    : `session_ends_${createHash("sha256").update(schema).digest("hex").slice(0, 32)}`

/** The statements over the tables of a schema. The caller quotes the name. */
export const make = (schema: string, channel: string) => {
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

  /** Ends the oldest sessions of a principal but the newest ones, which are as many as the parameter `keep` says. */
  const displaced = (principal: string, keep: string, but = "") => `
      displaced as (
        update ${sessions} s set ended_at = moment.at, end_reason = 'displaced' from moment
        where ${isStillLive("s", "moment.at")} and s.id in (
          select l.id from ${sessions} l, moment m
          where l.principal = ${principal} and ${isLive("l", "m.at")} ${but}
          order by l.created_at desc, l.id desc offset ${keep}::int)
        returning s.id
      )`

  /** The hashes in $1, 32 bytes each, by their place `a.place` from 0, with their tokens `t` and sessions `s`. */
  const tokensPresented = `generate_series(0, length($1::bytea) / 32 - 1) as a (place)
        left join ${tokens} t on t.hash = substr($1::bytea, a.place * 32 + 1, 32)
        left join ${sessions} s on s.id = t.session`
  const presentedState = `
          case when s.id is null then 'missing'
               when ${isLive("s", "now()")} and t.valid_until <= now() then 'superseded'
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

    /**
     * $1 principal. Makes the row if need be, locks it and tells the epoch. Two statements, because most find the row,
     * and then write none.
     */
    lockPrincipal: `
      select ${epoch("p")} from ${principals} p where p.principal = $1 for no key update`,
    addPrincipal: `
      insert into ${principals} as p (principal) values ($1)
      on conflict (principal) do update set principal = excluded.principal returning ${epoch("p")}`,
    /**
     * $1 principals, in one order for all. Locks those that nobody else has, as `lockPrincipal` does: each with its epoch. Waits for
     * nobody but who adds the same principal at this moment.
     */
    lockFree: `
      with asked as materialized (
        select * from unnest($1::text[]) with ordinality as a (principal, place)
      ), free as materialized (
        select p.principal, ${epoch("p")} from asked a join ${principals} p on p.principal = a.principal
        order by a.place for no key update of p skip locked
      ), added as (
        insert into ${principals} as p (principal)
        select a.principal from asked a where not exists (select from ${principals} p where p.principal = a.principal)
        order by a.place on conflict do nothing
        returning p.principal, ${epoch("p")}
      )
      select * from free union all select * from added`,
    /** $1 principal. Locks as well, and begins a new epoch. */
    beginEpoch: `
      insert into ${principals} as p (principal, revoked_at) values ($1, clock_timestamp())
      on conflict (principal) do update
        set revoked_at = greatest(clock_timestamp(), p.revoked_at + interval '1 microsecond')`,
    /** $1 principal. */
    epoch: `select ${epoch("p")} from ${principals} p where p.principal = $1 and ${onPrimary}`,

    /**
     * $1 id, $2 principal, $3 data, $4 its version, $5 device, $6 idle and $7 absolute timeout and $8 age of renewal in
     * milliseconds, $9 how many other sessions the principal may keep, $10 hash, $11 nonce, $12 the hash of a token that it
     * takes the place of, or null, $13 the operator who acts in it, or null. The record, and the ids of those that made room.
     */
    create: `
      with moment as materialized (select clock_timestamp() as at),
      ${displaced("$2::text", "$9")}, ${told("displaced")},
      made as (
        insert into ${sessions} as s (id, principal, data, data_version, version, device, created_at, last_seen_at,
          idle_timeout, renew_every, expires_at, actor)
        select $1, $2::text, $3::json, $4, 1, $5::json, at, at, ${millis("$6")}, ${millis("$8")}, at + ${millis("$7")},
          $13::text
        from moment
        returning ${columns("s")}
      ), issued as (
        insert into ${tokens} (hash, session, issued_at, nonce) select $10::bytea, id, created_at, $11 from made
      ), followed as (
        update ${tokens} t set session = made.id, valid_until = made.created_at, predecessor = null
        from made, ${sessions} s
        where t.hash = $12::bytea and s.id = t.session and not ${isStillLive("s", "clock_timestamp()")}
      )
      select made.*, ${displacedIds} from made`,

    /**
     * As {@link create}, for many sessions of different principals that are locked, none of which takes another token's place. Each
     * parameter is the array of what `create` takes, but without its $12, the hash is in hexadecimal, and the empty name is none. A
     * row for each, ending in its place from 0.
     */
    createMany: `
      with moment as materialized (select clock_timestamp() as at), asked as materialized (
        select * from unnest($1::text[], $2::text[], $3::text[], $4::int[], $5::text[], $6::float8[], $7::float8[],
          $8::float8[], $9::int[], $10::text[], $11::text[], $12::text[]) with ordinality
          as a (id, principal, data, data_version, device, idle, absolute, renew, keep, hash, nonce, actor, place)
      ), displaced as (
        update ${sessions} s set ended_at = moment.at, end_reason = 'displaced' from moment
        where ${isStillLive("s", "moment.at")} and s.id in (
          select old.id from asked a cross join lateral (
            select l.id from ${sessions} l, moment m where l.principal = a.principal and ${isLive("l", "m.at")}
            order by l.created_at desc, l.id desc offset a.keep) old)
        returning s.id, s.principal
      ), told as materialized (select id, principal, pg_notify('${channel}', id) from displaced),
      made as (
        insert into ${sessions} as s (id, principal, data, data_version, version, device, created_at, last_seen_at,
          idle_timeout, renew_every, expires_at, actor)
        select id, nullif(principal, ''), data::json, data_version, 1, device::json, at, at, ${millis("idle")}, ${millis("renew")},
          at + ${millis("absolute")}, nullif(actor, '')
        from asked, moment
        returning ${columns("s")}
      ), issued as (
        insert into ${tokens} (hash, session, issued_at, nonce)
        select decode(a.hash, 'hex'), made.id, made.created_at, a.nonce from made join asked a on a.id = made.id
      )
      select made.*,
        coalesce((select json_agg(t.id) from told t where t.principal = made.principal), '[]')::text, a.place - 1
      from made join asked a on a.id = made.id`,

    /** $1 hash. Whose the session is now. */
    owner: `select s.principal from ${tokens} t join ${sessions} s on s.id = t.session where t.hash = $1`,
    /** $1 hash. Before {@link authenticate}, so that it sees every token that was issued until then. */
    lockSession: locked("s.id"),
    /**
     * $1 hash, $2 principal, $3 data or null, $4 its version, $5 device, $6 idle and $7 absolute timeout and $8 age of
     * renewal in milliseconds, $9 how many other sessions the principal may keep, $10 the new hash, $11 nonce. As `create`.
     */
    authenticate: `
      with moment as materialized (select clock_timestamp() as at), mine as materialized (
        select s.id from ${tokens} t join ${sessions} s on s.id = t.session, moment
        where t.hash = $1 and ${isAccepted("t", "moment.at")} and ${isStillLive("s", "moment.at")}
      ), ${displaced("$2::text", "$9", "and l.id not in (select id from mine) and exists (select from mine)")},
      ${told("displaced")},
      dead as (
        update ${tokens} t set valid_until = moment.at from moment, mine
        where t.session = mine.id and ${isAccepted("t", "moment.at")}
      ), ${forgotten("mine")},
      issued as (
        insert into ${tokens} (hash, session, issued_at, nonce) select $10::bytea, mine.id, at, $11 from mine, moment
      ), made as (
        update ${sessions} s set principal = $2::text, data = coalesce($3::json, s.data),
          data_version = coalesce($4::int, s.data_version), version = s.version + 1, device = $5::json, created_at = at,
          last_seen_at = at, idle_timeout = ${millis("$6")}, renew_every = ${millis("$8")}, expires_at = at + ${millis("$7")},
          actor = null
        from mine, moment where s.id = mine.id
        returning ${columns("s")}
      )
      select made.*, ${displacedIds} from made`,

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

    /**
     * $1 hash, $2 the next one, $3 nonce. After {@link lockSession}, in its transaction. No row when it was not done: then
     * {@link refusal} says why.
     */
    rotate: `
      with moment as materialized (select clock_timestamp() as at), mine as materialized (
        select s.* from ${tokens} t join ${sessions} s on s.id = t.session, moment
        where t.hash = $1 and ${isAccepted("t", "moment.at")} and ${isStillLive("s", "moment.at")}
      ), dead as (
        update ${tokens} t set valid_until = moment.at from moment, mine
        where t.session = mine.id and ${isAccepted("t", "moment.at")}
      ), ${forgotten("mine")},
      issued as (
        insert into ${tokens} (hash, session, issued_at, nonce) select $2::bytea, mine.id, at, $3 from mine, moment
      )
      select ${columns("mine")} from mine`,

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

/** The time of the last revocation of all, in microseconds, which a float holds exactly until the year 2255. */
const epoch = (p: string) => `coalesce(extract(epoch from ${p}.revoked_at) * 1000000, 0)::float8`
