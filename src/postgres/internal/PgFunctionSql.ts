/**
 * The statements of `PgFunctionStore`. Every time in them is the server's.
 */

/** Whole ones, so that no time is told later than it is. */
const millis = (time: string) => `floor(extract(epoch from ${time}) * 1000)::float8`
const touchInterval = (f: string) => `least(${f}.idle_timeout / 10, interval '1 minute')`
const expiresAt = (f: string, usedAt = `${f}.used_at`) => `least(${usedAt} + ${f}.idle_timeout, ${f}.until)`

/** A record, in the order in which it is read. */
const record = (f: string, usedAt?: string) =>
  `${f}.id, ${f}.principal, ${f}.language, ${f}.title, ${f}.script, ${f}.context, ${millis(`${f}.created_at`)}, ${millis(expiresAt(f, usedAt))}`

const isLive = (f: string) => `${f}.due_at > now()`

export const make = (schema: string) => {
  const functions = `${schema}.functions`
  return {
    /** $1 principal. How many functions and bytes there are: as many rows are looked at. */
    room: `
      select count(*)::integer, coalesce(sum(f.bytes), 0)::float8
      from ${functions} f where f.principal = $1::text and ${isLive("f")}`,
    /**
     * $1 id, $2 principal, $3 language, $4 title, $5 script, $6 context, $7 bytes, $8 idle timeout and $9 absolute timeout in
     * milliseconds.
     */
    create: `
      with times as (
        select $8::float8 * interval '1 millisecond' as idle, now() + $9::float8 * interval '1 millisecond' as until
      )
      insert into ${functions} as f
        (id, principal, language, title, script, context, bytes, created_at, used_at, idle_timeout, until, due_at)
      select $1::text, $2::text, $3::text, $4::text, $5::text, $6::text, $7::integer, now(), now(), idle, until,
        least(now() + idle + least(idle / 10, interval '1 minute'), until)
      from times
      returning ${record("f")}`,
    /** $1 id, $2 principal. */
    find: `select ${record("f")} from ${functions} f where f.id = $1::text and f.principal = $2::text and ${isLive("f")}`,
    /** $1 id, $2 principal. Waits for nobody: who holds the row writes the same. */
    use: `
      with due as (
        select f.id from ${functions} f
        where f.id = $1::text and f.principal = $2::text and ${isLive("f")} and f.used_at < now() - ${touchInterval("f")}
        for no key update skip locked
      ), used as (
        update ${functions} f set used_at = now(),
          due_at = least(now() + f.idle_timeout + ${touchInterval("f")}, f.until)
        from due where f.id = due.id returning f.used_at
      )
      select ${record("f", "coalesce((select used_at from used), f.used_at)")}
      from ${functions} f where f.id = $1::text and f.principal = $2::text and ${isLive("f")}`,
    /** $1 principal, $2 the last id of the page before or null, $3 how many. */
    list: `
      select ${record("f")} from ${functions} f
      where f.principal = $1::text and ${isLive("f")}
        and ($2::text is null
          or (f.created_at, f.id) < (select b.created_at, b.id from ${functions} b where b.id = $2::text and b.principal = $1::text))
      order by f.created_at desc, f.id desc limit $3::integer`,
    /** $1 id, $2 principal. */
    end: `delete from ${functions} f where f.id = $1::text and f.principal = $2::text and ${isLive("f")} returning f.id`,
    /** $1 ids, as JSON. */
    endedOf: `
      select coalesce(json_agg(asked.id), '[]')::text from json_array_elements_text($1::json) as asked(id)
      where not exists (select from ${functions} f where f.id = asked.id)`,
    /** $1 how many. What was executed until the end has an hour. */
    prune: `
      with over as (
        select f.id from ${functions} f where f.due_at < now() - interval '1 hour'
        order by f.due_at limit $1::integer for update skip locked
      ), gone as (delete from ${functions} f using over where f.id = over.id returning f.id)
      select count(*)::integer from gone`,
    ping: "select 1"
  }
}
