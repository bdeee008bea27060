/**
 * The statements of `PgQueryJournal` and `PgQueryResults`. Every time in them is the server's, but for the times of states, which
 * instances tell by its clock.
 */

const now = "pg_catalog.clock_timestamp()"
const millis = (time: string) => `floor(extract(epoch from ${time}) * 1000)::float8`
const span = (milliseconds: string) => `(${milliseconds} * interval '1 millisecond')`

/** Microseconds since 2020, so that it has 15 digits. */
const place = `floor((extract(epoch from ${now}) - 1577836800) * 1000000)::bigint`

/** A record, in the order in which it is read. */
const record = (q: string) => `${q}.id, ${q}.principal, ${q}.session, ${q}.engine, ${q}.instance, ${q}.sql, ${q}.state,
  ${q}.transitions, ${millis(`${q}.expires_at`)}, ${q}.row_count, ${q}.bytes, ${q}.notices, ${q}.notices_dropped, ${q}.error`

const isThere = (q: string) => `(${q}.expires_at is null or ${q}.expires_at > ${now})`

/** Adds a state to the JSON of the states. */
const andState = (q: string, state: string) =>
  `left(${q}.transitions, -1) || ',{"state":"' || ${state} || '","at":' || (${millis(now)})::bigint::text || '}]'`

/** Ids that one notification tells: it has room for 7,999 bytes. */
const told = 150

/**
 * What happened to queries is told as `n id id …`, that they are to end as `c id id …`. A question is told as `q id`, and that it has
 * an answer as news of its id.
 */
export const make = (schema: string, channel: string) => {
  const queries = `${schema}.queries`
  const keys = `${schema}.query_keys`
  const instances = `${schema}.query_instances`
  const backends = `${schema}.query_backends`
  const rows = `${schema}.query_rows`
  const questions = `${schema}.query_questions`
  const answers = `${schema}.query_answers`
  const tell = (what: string, from: string) =>
    `select pg_notify('${channel}', '${what} ' || string_agg(x.id, ' '))
      from (select ${from}.id, (row_number() over () - 1) / ${told} as part from ${from}) x group by x.part`
  const cancel = (which: string) => `
      with u as (
        update ${queries} q set cancel_at = coalesce(q.cancel_at, ${now})
        where ${which} and q.expires_at is null returning q.id, q.principal
      ), told as (${tell("c", "u")})
      select u.id, u.principal, (select count(*)::integer from told) from u`
  return {
    /**
     * $1 new queries and $2 changes, as JSON of lists; $3 the incarnation; $4 whether anybody else is to hear of changes. A writer
     * holds the row of its incarnation, and an instance that ends it has to wait for that row.
     */
    write: `
      with me as materialized (
        select i.id, i.name from ${instances} i where i.id = $3::uuid and i.ended_at is null for key share
      ), t as materialized (
        select * from json_to_recordset($1::json) as t(id text, principal text, session text, engine text, sql text, work text,
          state text, transitions text, rerun boolean, deadline float8, retention float8, size integer, key text, digest text,
          "window" float8, "maxKeys" integer, "maxWaiting" integer)
      ), refused as materialized (
        select t.id, case
          when t.key is not null and (select count(*) from (select from ${keys} k where k.principal = t.principal
            limit t."maxKeys") c) >= t."maxKeys" then 'keysOfPrincipal'
          when t.state = 'Queued' and (select count(*) from (select from ${queries} q where q.principal = t.principal
            and q.state = 'Queued' limit t."maxWaiting") c) >= t."maxWaiting" then 'waitingOfPrincipal' end as why
        from t
      ), k as (
        insert into ${keys} as k (principal, key, digest, query, until)
        select t.principal, t.key, t.digest, t.id, ${now} + ${span('t."window"')}
        from t join refused r on r.id = t.id cross join me where t.key is not null and r.why is null
        on conflict (principal, key) do update set digest = excluded.digest, query = excluded.query, until = excluded.until
          where k.until <= ${now}
        returning k.query
      ), i as (
        insert into ${queries} (id, seq, principal, session, engine, instance, owner, sql, work, state, transitions, rerun,
          deadline_ms, retention_ms, size)
        select t.id, ${place} + row_number() over (), t.principal, t.session, t.engine, me.name, me.id, t.sql, t.work, t.state, t.transitions, t.rerun,
          t.deadline, t.retention, t.size
        from t join refused r on r.id = t.id cross join me
        where r.why is null and (t.key is null or exists (select from k where k.query = t.id))
        on conflict (id) do nothing returning id
      ), u as (
        update ${queries} q set state = c.state, transitions = c.transitions, error = c.error, row_count = c.row_count,
          bytes = c.bytes, notices = c.notices, notices_dropped = coalesce(c.dropped, 0), columns = c.columns,
          inline = c.inline, size = coalesce(c.size, q.size), work = case when c.keep then coalesce(c.work, q.work) end,
          kept = case when c.over and c.state <> 'Succeeded' then 0 else q.kept end,
          expires_at = case when c.over then to_timestamp(c.expires / 1000) end
        from json_to_recordset($2::json) as c(id text, attempt integer, state text, transitions text, error text,
          row_count float8, bytes float8, notices text, dropped integer, columns text, inline text, size integer, work text,
          keep boolean, over boolean, expires float8)
        cross join me
        where q.id = c.id and q.owner = me.id and q.attempt = c.attempt and q.expires_at is null
        returning q.id
      ), heard as (
        select u.id from u where $4::boolean
      ), told as (${tell("n", "heard")})
      select 'in' as what, i.id from i union all select 'changed', u.id from u
      union all select r.why, r.id from refused r where r.why is not null
      union all select 'me', me.id::text from me
      union all select 'told', count(*)::text from told`,
    /** $1 ids, $2 the incarnation. Which of them are there, and how: an earlier write whose answer was lost. */
    written: `
      select q.id, q.attempt, q.state, q.expires_at is not null from ${queries} q
      where q.id = any (select json_array_elements_text($1::json)) and q.owner = $2::uuid`,
    /** $1 ids, $2 the incarnation: submissions that nobody waits for any more. */
    withdraw: `
      with gone as (
        delete from ${queries} q using json_array_elements_text($1::json) as w(id)
        where q.id = w.id and q.owner = $2::uuid and q.expires_at is null returning q.id
      ) delete from ${keys} k using gone where k.query = gone.id`,
    /** $1 principal, $2 key. */
    keyed: `
      select k.query, k.digest, ${record("q")} from ${keys} k left join ${queries} q on q.id = k.query and ${isThere("q")}
      where k.principal = $1::text and k.key = $2::text and k.until > ${now}`,
    /** $1 id, $2 principal. */
    find: `
      select ${record("q")}, q.attempt, q.columns, q.inline from ${queries} q
      where q.id = $1::text and q.principal = $2::text and ${isThere("q")}`,
    /** $1 principal, $2 before which place, $3 state or null, $4 how many, $5 how many bytes of JSON. One at least. */
    list: `
      select * from (
        select ${record("q")}, q.seq::float8, (count(*) over ())::integer, sum(1000 + octet_length(q.sql)
            + coalesce(octet_length(q.error), 0) + coalesce(octet_length(q.notices), 0)) over (order by q.seq desc) as total,
          row_number() over (order by q.seq desc) as place
        from (
          select * from ${queries} q where q.principal = $1::text and q.seq < $2::float8::bigint
            and ($3::text is null or q.state = $3::text) and ${isThere("q")}
          order by q.seq desc limit $4::integer
        ) q
      ) l where l.total <= $5::float8 or l.place = 1 order by l.place`,
    /** $1 principal, $2 id. */
    cancelOne: cancel("q.principal = $1::text and q.id = $2::text"),
    /** $1 principal. */
    cancelPrincipal: cancel("q.principal = $1::text"),
    /** $1 session. */
    cancelSession: cancel("q.session = $1::text"),
    /** $1 id, of anybody's. */
    cancelAny: cancel("q.id = $1::text"),
    /** $1 id, $2 the question. Who is alive to answer it. Questions of instances that died over them go. */
    ask: `
      with old as (
        delete from ${questions} o where o.asked_at < ${now} - interval '1 minute'
      ), q as (
        insert into ${questions} (id, question, asked_at) values ($1::text, $2::text, ${now}) returning id
      ), told as (select pg_notify('${channel}', 'q ' || q.id) from q)
      select i.id::text, i.name, ${millis("i.started_at")}, (select count(*)::integer from told) from ${instances} i
      where i.ended_at is null and i.lease_until > ${now} order by i.started_at, i.id`,
    /** $1 the incarnation. What it has not answered yet. */
    asked: `
      select q.id, q.question from ${questions} q
      where not exists (select from ${answers} a where a.question = q.id and a.instance = $1::uuid)`,
    /** $1 id of the question, $2 the incarnation, $3 the answer. */
    answer: `
      with a as (
        insert into ${answers} (question, instance, answer)
        select q.id, $2::uuid, $3::text from ${questions} q where q.id = $1::text for key share
        on conflict do nothing returning question
      )
      select pg_notify('${channel}', 'n ' || a.question)::text from a`,
    /** $1 id of the question, $2 incarnations whose answers are known, as JSON. */
    answers: `
      select a.instance::text, a.answer from ${answers} a
      where a.question = $1::text and a.instance::text not in (select json_array_elements_text($2::json))`,
    /** $1 id of a question. */
    forgetQuestion: `delete from ${questions} q where q.id = $1::text`,
    /**
     * $1 id, $2 name, $3 the lease in milliseconds, $4 the incarnation before or null: while that has something at the engines,
     * nothing is returned. The others are told: one that was alone tells nobody of its queries.
     */
    join: `
      with i as (
        insert into ${instances} (id, name, beat_at, lease_until, notes)
        select $1::uuid, $2::text, ${now}, ${now} + ${span("$3::float8")}, true
        where not exists (select from ${backends} b where b.instance = $4::uuid)
        returning id
      )
      select ${millis(now)}, pg_notify('${channel}', 'j ' || i.id::text)::text from i`,
    /**
     * $1 the incarnation, $2 the lease and $3 two beats, in milliseconds. Whether it is there still; who seems to be gone; which
     * of its queries are to end; what is to be pruned; how many there are; what time it is. Gone is an incarnation that was
     * ended, or whose lease is over, or that has missed two beats and whose connection that listens is gone, too.
     */
    beat: `
      with me as (
        update ${instances} i set beat_at = ${now}, lease_until = ${now} + ${span("$2::float8")}
        where i.id = $1::uuid and i.ended_at is null returning 1
      ), others as materialized (
        select i.id, i.ended_at is not null or i.lease_until < ${now}
          or (i.beat_at < ${now} - ${span("$3::float8")} and i.listen_pid is not null and not exists (
            select from pg_stat_activity a where a.pid = i.listen_pid
              and (a.backend_start is null or a.backend_start = i.listen_start))) as is_gone
        from ${instances} i where i.id <> $1::uuid and i.cleaned_at is null
      )
      select (select count(*) from me)::integer,
        (select coalesce(json_agg(o.id), '[]')::text from others o where o.is_gone),
        (select coalesce(json_agg(q.id), '[]')::text from ${queries} q
          where q.owner = $1::uuid and q.expires_at is null and q.cancel_at is not null),
        exists (select from ${queries} q where q.expires_at < ${now}) or exists (select from ${keys} k where k.until < ${now}),
        (select 1 + count(*) from others o where not o.is_gone)::integer,
        ${millis(now)}`,
    /** $1 the incarnation, $2 and $3 its backend that listens. */
    listens: `
      update ${instances} i set listen_pid = $2::integer, listen_start = $3::timestamptz where i.id = $1::uuid`,
    /** $1 the incarnation. What it has handed over is for others; with nothing left, there is nothing to do. */
    leave: `
      update ${instances} i set ended_at = coalesce(i.ended_at, ${now}), cleaned_at = case when not exists (
        select from ${queries} q where q.owner = i.id and q.expires_at is null) then ${now} end
      where i.id = $1::uuid`,
    /** $1 the incarnation, $2 engine, $3 handle. Nothing is returned for one that is over. */
    register: `
      with me as materialized (
        select i.id from ${instances} i where i.id = $1::uuid and i.ended_at is null for key share
      )
      insert into ${backends} (instance, engine, handle) select me.id, $2::text, $3::text from me
      on conflict do nothing returning 1`,
    /** $1 the incarnation, $2 engine, $3 handles as JSON. */
    unregister: `
      delete from ${backends} b where b.instance = $1::uuid and b.engine = $2::text
        and b.handle = any (select json_array_elements_text($3::json))`,
    /**
     * $1 an incarnation that seems to be gone, $2 two beats. Ended for good, where it still seems so: whether that is long ago, and
     * whether it has noted what it had at the engines.
     */
    fence: `
      with gone as materialized (
        select i.id from ${instances} i where i.id = $1::uuid and i.cleaned_at is null and (i.ended_at is not null
          or i.lease_until < ${now} or i.beat_at < ${now} - ${span("$2::float8")}) for update
      )
      update ${instances} i set ended_at = coalesce(i.ended_at, ${now}) from gone where i.id = gone.id
      returning i.ended_at < ${now} - interval '1 minute', i.notes`,
    /** $1 the incarnation, $2 engines as JSON, where nothing of it is left. */
    forgetBackends: `
      delete from ${backends} b where b.instance = $1::uuid
        and b.engine = any (select json_array_elements_text($2::json))`,
    /** $1 the incarnation. What it has at the engines. */
    backendsOf: `select b.engine, b.handle from ${backends} b where b.instance = $1::uuid`,
    /**
     * $1 the incarnation that is gone, $2 this one, $3 engines as JSON, $4 those where what it began is over, $5 how many. Waiting
     * queries, and those that may run again.
     */
    adopt: `
      with me as materialized (
        select i.id, i.name from ${instances} i where i.id = $2::uuid and i.ended_at is null for key share
      ), mine as materialized (
        select q.id from ${queries} q where q.owner = $1::uuid and q.expires_at is null and q.cancel_at is null
          and q.attempt < 5 and q.work is not null and q.engine = any (select json_array_elements_text($3::json))
          and (q.state = 'Queued' or (q.rerun and q.engine = any (select json_array_elements_text($4::json))))
        order by q.seq limit $5::integer for update skip locked
      )
      update ${queries} q set owner = me.id, instance = me.name, attempt = q.attempt + 1, state = 'Queued', error = null,
        transitions = case when q.state = 'Queued' then q.transitions else ${andState("q", "'Queued'")} end
      from mine, me where q.id = mine.id
      returning ${record("q")}, q.attempt, q.work, q.deadline_ms, q.retention_ms, q.rerun`,
    /**
     * $1 the incarnation that is gone, $2 engines whose queries are told, $3 and $4 the errors of a query that was begun and
     * of one that waited, $5 of one that somebody had cancelled, $6 how many, $7 engines where what it began is over, $8 the
     * error of a query that was begun elsewhere, $9 engines where what may run again is to wait until it can.
     */
    giveUp: `
      with gone as materialized (
        select q.id from ${queries} q where q.owner = $1::uuid and q.expires_at is null
          and (q.engine = any (select json_array_elements_text($2::json)))
          and (q.cancel_at is not null or q.state <> 'Queued' or q.attempt >= 5 or q.work is null)
          and not (q.rerun and q.state <> 'Queued' and q.cancel_at is null and q.attempt < 5 and q.work is not null
            and q.engine = any (select json_array_elements_text($9::json)))
        limit $6::integer for update skip locked
      ), u as (
        update ${queries} q set
          state = case when q.state = 'Queued' and q.cancel_at is not null then 'Canceled' else 'Failed' end,
          error = case when q.state <> 'Queued' then case
            when q.engine = any (select json_array_elements_text($7::json)) then $3::text else $8::text end
            when q.cancel_at is not null then $5::text else $4::text end,
          transitions = ${andState("q", "case when q.state = 'Queued' and q.cancel_at is not null then 'Canceled' else 'Failed' end")},
          work = null, kept = 0, expires_at = ${now} + ${span("q.retention_ms")}
        from gone where q.id = gone.id returning q.id
      ), told as (${tell("n", "u")})
      select u.id, (select count(*)::integer from told) from u`,
    /** $1 the incarnation. Nothing is left of it. */
    cleaned: `
      with left_over as (select from ${queries} q where q.owner = $1::uuid and q.expires_at is null limit 1),
      b as (delete from ${backends} b where b.instance = $1::uuid and not exists (select from left_over))
      update ${instances} i set cleaned_at = ${now} where i.id = $1::uuid and not exists (select from left_over) returning 1`,
    /** $1 how many. Nobody sees them any more. */
    due: `
      select q.id, q.bytes > 0 and q.inline is null from ${queries} q where q.expires_at < ${now}
      order by q.expires_at limit $1::integer`,
    /** $1 principals as JSON, $2 how many records and $3 how much text of each may stay: the others are treated as due. */
    excess: `
      with excess as (
        select k.id from json_array_elements_text($1::json) as p(principal) cross join lateral (
          select q.id, row_number() over (order by q.seq desc) as place, sum(q.size) over (order by q.seq desc) as total
          from ${queries} q where q.principal = p.principal and q.expires_at > ${now}
        ) k where k.place > $2::integer or (k.total > $3::float8 and k.place > 1)
      )
      update ${queries} q set expires_at = ${now} - interval '1 microsecond' from excess where q.id = excess.id`,
    /** $1 ids as JSON, $2 how many chunks. */
    pruneRows: `
      with gone as (
        select r.query, r.attempt, r.chunk from ${rows} r
        where r.query = any (select json_array_elements_text($1::json)) limit $2::integer
      )
      delete from ${rows} r using gone
      where r.query = gone.query and r.attempt = gone.attempt and r.chunk = gone.chunk returning 1`,
    /** $1 ids as JSON. */
    prune: `
      delete from ${queries} q using json_array_elements_text($1::json) as gone(id)
      where q.id = gone.id and q.expires_at < ${now}`,
    /** $1 how many. */
    pruneKeys: `
      with gone as (select k.principal, k.key from ${keys} k where k.until < ${now} order by k.until limit $1::integer
        for update skip locked)
      delete from ${keys} k using gone where k.principal = gone.principal and k.key = gone.key`,
    /** Incarnations of which nothing is left for an hour. */
    pruneInstances: `delete from ${instances} i where i.cleaned_at < ${now} - interval '1 hour'`,
    /** $1 id, $2 the incarnation, $3 attempt, $4 chunk, $5 place, $6 data, $7 its bytes. Nothing is returned where it is over. */
    addRows: `
      with q as (
        update ${queries} q set kept = q.kept + $7::bigint
        where q.id = $1::text and q.owner = $2::uuid and q.attempt = $3::integer and q.expires_at is null
          and exists (select from ${instances} i where i.id = $2::uuid and i.ended_at is null)
        returning q.id
      )
      insert into ${rows} (query, attempt, chunk, place, data)
      select q.id, $3::integer, $4::integer, $5::float8::bigint, $6::bytea from q returning 1`,
    /** $1 id, $2 attempt, $3 place. The chunk that holds it. */
    chunkOf: `
      select r.chunk, r.place::float8, r.data from ${rows} r
      where r.query = $1::text and r.attempt = $2::integer and r.place <= $3::float8::bigint
      order by r.place desc, r.chunk desc limit 1`,
    /** $1 id, $2 attempt, $3 from which chunk on, $4 how many. */
    readRows: `
      select r.data from ${rows} r
      where r.query = $1::text and r.attempt = $2::integer and r.chunk >= $3::integer
      order by r.chunk limit $4::integer`,
    /** $1 id, $2 attempt. */
    removeRows: `delete from ${rows} r where r.query = $1::text and r.attempt = $2::integer`,
    /** What principals keep. */
    kept: `select q.principal, sum(q.kept)::float8 from ${queries} q where q.kept > 0 group by q.principal`,
    ping: "select 1"
  }
}

export type PgQuerySql = ReturnType<typeof make>

export const channelOf = (schema: string) => `${schema}_queries`
