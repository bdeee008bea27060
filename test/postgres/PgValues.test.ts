import { assert, describe, it } from "@effect/vitest"
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
