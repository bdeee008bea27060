import { assert, describe, it } from "@effect/vitest"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import { builtIn } from "../../src/postgres/internal/PgBuiltInTypes.ts"
import { superuserUrl } from "../support/postgres.ts"
import * as Effect from "effect/Effect"
import * as Service from "../support/service.ts"
import { withQueries } from "../support/queries.ts"
import * as ValuesLaw from "./valuesLaw.ts"

const holds = (findings: ValuesLaw.Findings) => {
  assert.deepStrictEqual(findings.differences, [])
  assert.deepStrictEqual(findings.refused, [])
  assert.deepStrictEqual(findings.nameless, [])
  assert.isAbove(findings.types, 80)
  assert.isAbove(findings.values, 3000)
  assert.isAbove(findings.arrays, 6000)
}

it.live("the list of built-in types is the server's", () =>
  Effect.gen(function* () {
    const connection = yield* PgConnection.make({ url: yield* superuserUrl })
    const { rows } = yield* connection.query(
      `select t.oid::int as id, coalesce(e.typname || '[]', t.typname) as name, e.oid::int as element, t.typdelim as delimiter
      from pg_type t left join pg_type e on e.typarray = t.oid where t.oid < 10000`
    )
    const listed = Array.from(builtIn, ([id, { delimiter, element, name }]) => ({
      id,
      name,
      element: element ?? null,
      delimiter
    }))
    assert.sameDeepMembers(
      listed,
      rows.map(({ delimiter, element, id, name }) => ({ id, name, element, delimiter }))
    )
  }).pipe(Effect.scoped)
)

describe("values of PostgreSQL", () => {
  it.live(
    "Q8 what a page of rows shows is the same value when it is sent back as a parameter, of every type of the server",
    () => withQueries(({ url }) => Effect.map(ValuesLaw.check(url), holds)),
    120_000
  )

  it.live(
    "Q8 also where the database writes dates, intervals, bytes and times in another way",
    () =>
      withQueries(({ name, url }) =>
        Effect.gen(function* () {
          yield* Service.administer(`alter database ${name} set datestyle = 'German, DMY'`)
          yield* Service.administer(`alter database ${name} set intervalstyle = 'sql_standard'`)
          yield* Service.administer(`alter database ${name} set bytea_output = 'escape'`)
          yield* Service.administer(`alter database ${name} set timezone = 'Asia/Kolkata'`)
          yield* Service.administer(`alter database ${name} set extra_float_digits = 0`)
          holds(yield* ValuesLaw.check(url))
        })
      ),
    120_000
  )
})
