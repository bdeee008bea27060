/** The SQL of the laws of query drivers: PostgreSQL's, which the local server for Snowflake runs, too. */
import * as SnowflakeValues from "../../src/snowflake/internal/SnowflakeValues.ts"
import type { Dialect } from "../../src/testing/QueryDriverLaws.ts"

const common = {
  numbers: (count: number) => `select n, 'row ' || n as label from generate_series(1, ${count}) n`,
  sleep: (seconds: number) => `select pg_sleep(${seconds})::text as slept`,
  table: "create table written (n int)",
  insert: (value: number, seconds: number) =>
    seconds === 0
      ? `insert into written values (${value})`
      : `insert into written select ${value} from pg_sleep(${seconds})`,
  written: "select n from written order by n",
  late: "57014"
}

const types = [
  { sql: "true", type: "bool", json: true },
  { sql: "7::int2", type: "int2", json: 7 },
  { sql: "9007199254740993::int8", type: "int8", json: "9007199254740993" },
  { sql: "1.10::numeric", type: "numeric", json: "1.10" },
  { sql: "1.5::float8", type: "float8", json: 1.5 },
  { sql: "'NaN'::float8", type: "float8", json: "NaN" },
  { sql: "'-Infinity'::float8", type: "float8", json: "-Infinity" },
  { sql: "'it''s \"é\" 🎉'::text", type: "text", json: 'it\'s "é" 🎉' },
  { sql: "date '2026-01-02'", type: "date", json: "2026-01-02" },
  { sql: "date '1600-02-29'", type: "date", json: "1600-02-29" },
  { sql: "time '03:04:05.123456'", type: "time", json: "03:04:05.123456" },
  { sql: "timestamp '2026-01-02 03:04:05.123456'", type: "timestamp", json: "2026-01-02T03:04:05.123456" },
  { sql: "timestamp '1901-12-31 23:59:59.5'", type: "timestamp", json: "1901-12-31T23:59:59.5" },
  { sql: "timestamptz '2026-01-02 03:04:05.5+02'", type: "timestamptz", json: "2026-01-02T01:04:05.5Z" },
  { sql: "'\\x00ff'::bytea", type: "bytea", json: "AP8=" },
  { sql: `'{"a":[1,null,"x"]}'::jsonb`, type: "jsonb", json: { a: [1, null, "x"] } },
  { sql: `'"text"'::jsonb`, type: "jsonb", json: '"text"' },
  { sql: "'9007199254740993'::jsonb", type: "jsonb", json: "9007199254740993" },
  { sql: "null::text", type: "text", json: null }
]

export const postgres: Dialect = {
  ...common,
  trickle: (count, seconds) =>
    `select n, case when n = 1 then repeat('x', 100000) else pg_sleep(${seconds / count})::text end from generate_series(1, ${count}) n`,
  number: (value) => value,
  missing: { sql: "select * from nowhere_to_be_found", code: "42P01" },
  values: types.map(({ json, sql, type }, index) => ({
    sql,
    json,
    back: { sql: `$${index + 1}::${type}`, param: json }
  })),
  setting: {
    name: "TimeZone",
    value: "Asia/Tokyo",
    shown: "select current_setting('TimeZone')",
    unknown: "no_such_setting_at_all"
  },
  notice: "do $$ begin raise notice 'hello'; end $$"
}

const bound: Readonly<Record<string, string>> = {
  int8: "NUMBER(19,0)",
  numeric: "NUMBER(38,2)",
  float8: "FLOAT",
  date: "DATE",
  time: "TIME",
  timestamp: "TIMESTAMP_NTZ",
  timestamptz: "TIMESTAMP_TZ",
  bytea: "BINARY"
}

/** What the server reads a parameter as is not asked: where a text would be read as something else, the parameter says its type. */
export const snowflake: Dialect = {
  ...common,
  number: String,
  missing: { sql: "select * from nowhere_to_be_found", code: "42S02" },
  values: types.map(({ json, sql, type }) => {
    const kind = bound[type]
    // JSON has no type of its own among bindings: it is a text, and the statement says that it is JSON.
    const param = kind === undefined || json === null ? json : { type: kind, value: json }
    return {
      sql,
      json,
      back: { sql: type === "jsonb" || type === "text" || type === "int2" ? `?::${type}` : "?", param }
    }
  }),
  setting: {
    name: "TIMEZONE",
    value: "Asia/Tokyo",
    shown: "select current_setting('TimeZone')",
    unknown: "NO_SUCH_SETTING_AT_ALL"
  }
}

/** Kept here so that a type that the driver names has a binding. */
export const bindable = Object.values(bound).map((type) => SnowflakeValues.encode({ type, value: null }))
