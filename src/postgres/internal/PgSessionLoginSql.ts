/**
 * The statements by which `PgSessionStore` gives out tokens: logins, new tokens, and the epochs of principals.
 */
import {
  columns,
  epoch,
  isAccepted,
  isReplaced,
  isStillLive,
  millis,
  onPrimary,
  type over
} from "./PgSessionSqlParts.ts"

/** The statements over the tables of a schema. */
export const make = (on: ReturnType<typeof over>, channel: string) => {
  const { displaced, displacedIds, forgotten, leaving, locked, principals, sessions, told, tokens } = on
  return {
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
      ${displaced(leaving("$2::text", "$9::int"))}, ${told("displaced")},
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
        update ${tokens} t set session = made.id, valid_until = made.created_at, predecessor = null, nonce = ''
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
      ), ${displaced(`asked a cross join lateral ${leaving("a.principal", "a.keep")}`)},
      told as materialized (select id, principal, pg_notify('${channel}', id) from displaced),
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
      ), ${displaced(leaving("$2::text", "$9::int", "and l.id not in (select id from mine) and exists (select from mine)"))},
      ${told("displaced")},
      dead as (
        update ${tokens} t set valid_until = least(t.valid_until, moment.at), nonce = '' from moment, mine
        where t.session = mine.id and not ${isReplaced("t")}
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

    /**
     * $1 hash, $2 the next one, $3 nonce. After {@link lockSession}, in its transaction. No row when it was not done: then
     * `refusal` says why.
     */
    rotate: `
      with moment as materialized (select clock_timestamp() as at), mine as materialized (
        select s.* from ${tokens} t join ${sessions} s on s.id = t.session, moment
        where t.hash = $1 and ${isAccepted("t", "moment.at")} and ${isStillLive("s", "moment.at")}
      ), dead as (
        update ${tokens} t set valid_until = least(t.valid_until, moment.at), nonce = '' from moment, mine
        where t.session = mine.id and not ${isReplaced("t")}
      ), ${forgotten("mine")},
      issued as (
        insert into ${tokens} (hash, session, issued_at, nonce) select $2::bytea, mine.id, at, $3 from mine, moment
      )
      select ${columns("mine")} from mine`
  }
}
