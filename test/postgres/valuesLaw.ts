/**
 * The law Q8 against a database: what a page of rows shows is the same value when it is sent back as a parameter.
 *
 * The types are those of the server's catalogue, and some of the test's own. Each gets those of many texts that it accepts.
 */
import * as PgConnection from "@effect/sql-pg/PgConnection"
import { isDeepStrictEqual } from "node:util"
import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import type * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as PgTarget from "../../src/postgres/internal/PgTarget.ts"
import * as Query from "../../src/query/Query.ts"
import type { QueryDriver } from "../../src/query/QueryDriver.ts"

const long = "9".repeat(200)

const texts: ReadonlyArray<string> = [
  ...'|a|A b| x |null|NULL|\\|"|\'|a"b\\c|{|}|{}|,|;|a,b|é|日本|𝄞|\t|\n|-|$1|%s'.split("|"),
  ["[]", "[[]]", "{1,2}", "(1)", "()", "true", "false", "t", "0", "1", "-1", "-0", "-0.0", "+1", "1.50", "100e-1"],
  ["NaN", "Infinity", "-Infinity", "infinity", "-infinity", "1e400", "1e-400", "5e-324", "1.7976931348623157e308"],
  ["3.4028235e38", "1e-45", "0.1", "1.1", "32767", "-32768", "2147483647", "-2147483648", "4294967295"],
  ["9007199254740991", "9007199254740992", "9007199254740993", "-9007199254740993", "9223372036854775807"],
  ["-9223372036854775808", "18446744073709551615", long, `-${long}.${long}`, "1234.00", "$1,234.56", "-$0.01"],
  ["\\x", "\\x00", "\\x00ff5c27", "\\xdeadbeef", "0101", "0".repeat(70), "B101", "x1f"],
  [
    '"a"',
    '"1"',
    '"null"',
    '"\\ud83d\\ude00"',
    '"\\u00e9"',
    '"a\\"b"',
    '{"a":1}',
    '{"a":1,"a":2}',
    '{"a": [1, {"b": null}]}'
  ],
  [
    '{"__proto__":{"a":1},"constructor":0}',
    '{"":1}',
    "[1,2]",
    "[-0]",
    "[1e400,9007199254740993]",
    "[null]",
    '["1",1,""]'
  ],
  ["[[1],[2]]", '{"1":1,"0":2}', `${"[".repeat(600)}${"]".repeat(600)}`, '[{"a":9007199254740993}]'],
  ["0044-03-15 BC", "4713-11-24 BC", "2026-01-02", "9999-12-31", "10000-01-01", "5874897-12-31"],
  ["0044-03-15 12:00:00.123456 BC", "2026-01-02 03:04:05.123456", "2026-01-02 03:04:05+02", "294276-12-31 23:59:59.25"],
  ["1800-01-01 00:00:00 Europe/Berlin", "00:00", "24:00", "23:59:59.999999", "23:59:59.999999+15:59:59", "04:05 PST"],
  ["1 year 2 mons -3 days 04:05:06.789", "-00:00:01", "P1Y", "1 mon ago", "178000000 years", "0"],
  ["(1,2)", "(-0,NaN)", "(Infinity,1e300)", "[(0,0),(1,1)]", "(1,1),(0,0)", "((0,0),(1,1),(2,0))", "[(0,0),(1,1)]"],
  ["<(0,0),1>", "{1,-1,0}", "(0,1)", "(4294967295,65535)", "0/0", "FFFFFFFF/FFFFFFFF", "16/B374D848"],
  [
    "08:00:2b:01:02:03",
    "08:00:2b:01:02:03:04:05",
    "192.168.0.1",
    "10.0.0.0/8",
    "::1",
    "2001:db8::/32",
    "192.168.100.128/25"
  ],
  ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "00000000-0000-0000-0000-000000000000", "<a>é</a>", "<a b='1'/>", "x<b/>"],
  ["'a':1A 'b c':2,3B", "a b 'c d'", "'a' & !'b c' <-> 'd':*A", "$.a[*] ? (@ > 1)", 'lax $."a b"', "10:20:10,14,15"],
  ["pg_catalog.pg_class", "pg_class", "int4", "integer[]", "pi()", "pi", "+(integer,integer)", "simple", "english"],
  ["pg_catalog", "postgres", "C", '"C"', "=r/postgres", "postgres=arwd/postgres", "1 2 3", "a b"],
  [
    "empty",
    "[1,5)",
    "(,)",
    "[1,)",
    "(,5]",
    '["a","b,c"]',
    "{[1,3),[5,9)}",
    "{(,)}",
    '["2026-01-01","2026-01-02")',
    "[0.1,0.2]"
  ],
  ["[2026-01-01,infinity)", '["2026-01-01 00:00:00+00",)', "{[2026-01-01,2026-01-02),[2026-02-01,)}"],
  ["sad", "o,k", 'qu"ote', '(1,"x, y","{1,NULL}")', "(,,)", '(1,"{""a"": 1}",)', "[0:1]={1,2}", "{{1,2},{3,4}}"],
  ["\\001", "\\377", "\\"]
].flat()

/** One literal: nothing of the text means anything. */
const literal = (text: string) => `U&'${text.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`

const setUp = [
  "create type mood as enum ('sad', 'o,k', 'qu\"ote', 'NULL', '')",
  "create domain positive as int check (value > 0)",
  "create domain numbers as int[]",
  "create domain document as jsonb",
  "create domain bytes as bytea",
  "create domain deeper as document",
  "create type pair as (a int, b text, c int[])",
  "create type textrange as range (subtype = text)",
  `create type "Odd ""name" as enum ('a', 'A b')`,
  `create function accepts(value text, type text) returns bool language plpgsql as $$ declare read text; begin
    execute format('select (%L::%s)::text', value, type) into read;
    -- Before PostgreSQL 15, a "char" above 127 is a byte that is not UTF-8. It is refused when it is read.
    return convert_from(convert_to(read, 'UTF8'), 'UTF8') is not null; exception when others then return false; end $$`
]

interface Difference {
  readonly type: string
  readonly value: string
  readonly shown: unknown
  readonly then: unknown
}

export interface Findings {
  readonly types: number
  readonly values: number
  readonly arrays: number
  readonly refused: ReadonlyArray<string>
  readonly differences: ReadonlyArray<Difference>
  /** Columns whose type has no name. */
  readonly nameless: ReadonlyArray<string>
}

const run = (sql: string, params: ReadonlyArray<Schema.Json> = []) =>
  Effect.gen(function* () {
    const query = yield* Query.Query
    const rows = yield* Stream.runCollect(query.rows)
    return { rows, columns: yield* query.columns }
  }).pipe(Effect.provide(Query.layer(sql, params)))

/** As a client gets it and sends it. */
const overTheWire = <A>(value: A): A => JSON.parse(JSON.stringify(value)) as A

/**
 * As the server writes it. `json` has no equality: it is the value that counts, not the spaces and not how a number is written,
 * but where it was shown as text, each character does. That of `jsonb` is the server's own.
 */
const same = (type: string, param: string, expression: string, shown: Schema.Json) => {
  const name = type.replaceAll('"', "")
  if (/\.jsonb?\[\]$|\.document\[\]$/.test(name)) {
    return `array_to_json(${param}::${type})::jsonb = array_to_json(${expression})::jsonb`
  }
  return /\.jsonb?$|\.(document|deeper)$/.test(name) && typeof shown !== "string"
    ? `(${param}::${type})::text::jsonb = (${expression})::text::jsonb`
    : `format('%s', ${param}::${type}) is not distinct from format('%s', ${expression})`
}

export const check = (url: Redacted.Redacted<string>) =>
  Effect.gen(function* () {
    const connection = yield* PgConnection.make(PgTarget.of(url).config)
    for (const sql of setUp) yield* connection.query(sql)
    const { rows: found } = yield* connection.query(
      `select quote_ident(n.nspname) || '.' || quote_ident(t.typname) as type, t.typarray <> 0 as has_array
      from pg_type t join pg_namespace n on n.oid = t.typnamespace
      where t.typtype <> 'p' and n.nspname not in ('pg_toast') and not exists (select from pg_type e where e.typarray = t.oid)
        and (t.typtype <> 'c' or n.nspname = 'public') order by t.oid`
    )
    const types = found as unknown as ReadonlyArray<{ readonly type: string; readonly has_array: boolean }>
    const unique = Array.from(new Set(texts))
    let [values, arrays] = [0, 0]
    const refused: Array<string> = []
    const differences: Array<Difference> = []
    const nameless: Array<string> = []

    const compare = (type: string, expressions: ReadonlyArray<string>): Effect.Effect<void, never, QueryDriver> =>
      Effect.gen(function* () {
        if (expressions.length === 0) return
        const { columns, rows } = yield* run(`select ${expressions.join(", ")}`)
        for (const column of columns) if (/^oid \d/.test(column.type)) nameless.push(`${type}: ${column.type}`)
        const shown = overTheWire(rows[0] ?? [])
        const params = shown.map((_, index) => `$${index + 1}`)
        const back = yield* run(
          `select ${[
            ...params.map((param) => `${param}::${type}`),
            ...params.map((param, index) => same(type, param, expressions[index] ?? "", shown[index] ?? null))
          ].join(", ")}`,
          shown
        )
        const again = overTheWire(back.rows[0] ?? [])
        expressions.forEach((value, index) => {
          const isSame = shown[index] === null || again[shown.length + index] === true
          if (!isSame || !isDeepStrictEqual(shown[index], again[index])) {
            differences.push({ type, value, shown: shown[index], then: again[index] })
          }
        })
      }).pipe(
        Effect.catch((error: { readonly message: string }) => {
          if (expressions.length === 1)
            return Effect.sync(() => void refused.push(`${type} ${expressions[0]}: ${error.message}`))
          return Effect.forEach(expressions, (expression) => compare(type, [expression]), { discard: true })
        })
      )

    let accepting = 0
    for (const { has_array, type } of types) {
      const { rows } = yield* connection.query(
        "select value, (select accepts(value, $2)) as isit from unnest($1::text[]) value",
        [unique, type]
      )
      const accepted = rows.filter(({ isit }) => isit === true).map(({ value }) => `${literal(String(value))}::${type}`)
      if (accepted.length > 0) accepting++
      values += accepted.length
      yield* compare(type, [...accepted, `null::${type}`])
      if (!has_array) continue
      const some = accepted.slice(0, 30)
      const all = [
        `'{}'::${type}[]`,
        `array[null]::${type}[]`,
        `array[[null, null]]::${type}[]`,
        ...accepted.map((value) => `array[${value}]`),
        ...accepted.map((value) => `array[[${value}], [null::${type}]]`),
        `array[${[...accepted, "null"].join(", ")}]::${type}[]`,
        `array[[${["null", ...some].join(", ")}], [${[...some, "null"].join(", ")}]]::${type}[]`,
        `array_fill(${some[0] ?? "null"}::${type}, array[2], array[0])`
      ]
      arrays += all.length
      yield* compare(`${type}[]`, all)
    }
    return { types: accepting, values, arrays, refused, differences, nameless } satisfies Findings
  }).pipe(Effect.scoped)
