/**
 * Who may log in to the service.
 *
 * Users live in the table `holdfast.users` until `holdfast user remove`; a password is kept as {@link Passwords} says.
 *
 * **Details**
 *
 * A user with a new password, and a user who is removed, keeps no earlier session. Sessions may be kept elsewhere, so the two cannot
 * be one write: that the sessions are still to be ended is a debt, which is written together with the password and stays until
 * somebody says that it is paid. The process that finds one pays it, so a process that dies in between leaves nobody logged in.
 *
 * A hash of an older cost is replaced in the background when its password was right. Their sessions go on: it is the same
 * password.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Clock from "effect/Clock"
import * as FiberSet from "effect/FiberSet"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as SqlSchema from "effect/sql/SqlSchema"
import { randomUUID } from "node:crypto"
import * as SteadyClock from "../lifetime/internal/SteadyClock.ts"
import * as TimeLimit from "../lifetime/TimeLimit.ts"
import * as Passwords from "./Passwords.ts"

/** The users cannot be read or written. */
export class UsersError extends Schema.TaggedError<UsersError>("holdfast/server/UsersError")("UsersError", {
  cause: Schema.Defect()
}) {
  override get message(): string {
    return "The users cannot be read at the moment. Try again later."
  }
}

const User = Schema.Struct({ name: Schema.String, operator: Schema.Boolean })
export type User = typeof User.Type

/** A new user, or a new password for one. */
export interface NewUser extends User {
  readonly password: Redacted.Redacted
}

/** A user whose sessions are still to be ended, and for which of the changes. */
export const Debt = Schema.Struct({ name: Schema.String, owes: Schema.String })
export type Debt = typeof Debt.Type

export class Users extends Context.Service<
  Users,
  {
    /**
     * Reads a user, and answers what tells whether a password is theirs. That asks nobody, is slow on purpose, and takes the
     * same time for users that do not exist.
     */
    readonly find: (
      name: string
    ) => Effect.Effect<(password: Redacted.Redacted) => Effect.Effect<Option.Option<User>>, UsersError>
    /** Whether a user is an operator by now. Nobody who is not there is one. */
    readonly isOperator: (name: string) => Effect.Effect<boolean, UsersError>
    /** Whether there is a user of this name by now. */
    readonly isThere: (name: string) => Effect.Effect<boolean, UsersError>
    /** Makes a user, or gives an existing one this password and role. Their sessions of before are to be ended. */
    readonly put: (user: NewUser) => Effect.Effect<Debt, UsersError>
    /**
     * As {@link put}, but a user who has this password already keeps it, and their sessions. Of several processes that start at once
     * and want the same, one writes.
     */
    readonly ensure: (user: NewUser) => Effect.Effect<void, UsersError>
    /** Makes a user an operator, or no longer one. */
    readonly setOperator: (name: string, operator: boolean) => Effect.Effect<void, UsersError>
    /** Removes a user, if there is one. Their sessions are to be ended. */
    readonly remove: (name: string) => Effect.Effect<Option.Option<Debt>, UsersError>
    /** Whose sessions are still to be ended. */
    readonly debts: Effect.Effect<ReadonlyArray<Debt>, UsersError>
    /** The sessions were ended after this change. */
    readonly paid: (debt: Debt) => Effect.Effect<void, UsersError>
    /** Everybody who may log in, in the order of their names. */
    readonly names: Effect.Effect<ReadonlyArray<string>, UsersError>
  }
>()("holdfast/server/Users") {}

/** PostgreSQL's text has no NUL, and half a surrogate pair would be written as another character: nobody has either. */
const isName = (name: string) => name.isWellFormed() && !name.includes("\0")
const notText = Effect.die(new TypeError("The name of a user must be well-formed text without NUL"))

const Row = Schema.Struct({ ...User.fields, password_hash: Schema.String })

/** For so long, in milliseconds, the costs of hashes that are in use are believed to be the same. */
const costsKnown = 60_000

/** Makes the service over the `SqlClient` in context. */
export const make = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const within = yield* TimeLimit.make(Duration.seconds(3), (limit) => new Error(`No answer within ${limit}`))
  const failed = <A, E>(work: Effect.Effect<A, E>) =>
    Effect.mapError(within(work), (cause) => new UsersError({ cause }))
  const find = SqlSchema.findOneOption({
    Request: Schema.String,
    Result: Row,
    execute: (name) =>
      sql`select name, operator, password_hash from holdfast.users where name = ${name} and not removed`
  })
  const names = SqlSchema.findAll({
    Request: Schema.Undefined,
    Result: Schema.Struct({ name: Schema.String }),
    execute: () => sql`select name from holdfast.users where not removed order by name`
  })

  const costs = SqlSchema.findAll({
    Request: Schema.Undefined,
    Result: Schema.Struct({ cost: Schema.NullOr(Schema.String) }),
    execute: () =>
      sql`select distinct substring(password_hash from ${Passwords.costPattern}) as cost from holdfast.users where not removed`
  })
  const clock = yield* Clock.Clock
  let known: { readonly costs: ReadonlyArray<string>; readonly until: number } | undefined
  /** What hashes of anybody cost. */
  const inUse = Effect.suspend(() => {
    const now = SteadyClock.millis(clock)
    if (known !== undefined && now < known.until) return Effect.succeed(known.costs)
    return Effect.map(failed(costs(undefined)), (rows) => {
      known = { costs: rows.flatMap(({ cost }) => cost ?? []), until: now + costsKnown }
      return known.costs
    })
  })

  const replacing = yield* FiberSet.make<void>()
  /** Unless the password is another by then. */
  const replace = (name: string, password: Redacted.Redacted, old: string) =>
    Passwords.hash(password).pipe(
      Effect.flatMap((hash) =>
        failed(sql`update holdfast.users set password_hash = ${hash} where name = ${name} and password_hash = ${old}`)
      ),
      Effect.tap(Effect.sync(() => (known = undefined))),
      // The next login tries again.
      Effect.ignore
    )

  const debts = SqlSchema.findAll({
    Request: Schema.Undefined,
    Result: Debt,
    execute: () => sql`select name, owes from holdfast.users where owes is not null order by name`
  })

  const setOperator = (name: string, operator: boolean) =>
    failed(sql`update holdfast.users set operator = ${operator} where name = ${name} and operator <> ${operator}`)

  const ensure = Effect.fn("Users.ensure")(function* (user: NewUser): Effect.fn.Return<void, UsersError> {
    const { name, operator, password } = user
    if (!isName(name)) return yield* notText
    const row = yield* failed(find(name))
    if (Option.isSome(row) && (yield* Passwords.verify(password, row.value.password_hash, yield* inUse)))
      return yield* Effect.asVoid(setOperator(name, operator))
    const hash = yield* Passwords.hash(password)
    const owes = randomUUID()
    const written = yield* failed(
      Option.match(row, {
        onNone: () =>
          sql`insert into holdfast.users as u (name, password_hash, operator, owes) values (${name}, ${hash}, ${operator}, ${owes})
            on conflict (name) do update set password_hash = excluded.password_hash, operator = excluded.operator,
              owes = excluded.owes, removed = false
            where u.removed returning name`,
        onSome: ({ password_hash }) =>
          sql`update holdfast.users set password_hash = ${hash}, operator = ${operator}, owes = ${owes}
            where name = ${name} and password_hash = ${password_hash} and not removed returning name`
      })
    )
    // Somebody else was faster: perhaps with the same password.
    if (written.length === 0) yield* ensure(user)
  })

  return Users.of({
    ensure,
    find: Effect.fn("Users.find")(function* (name) {
      const row = isName(name) ? yield* failed(find(name)) : Option.none()
      const costs = yield* inUse
      const stored = Option.match(row, {
        onNone: () => Passwords.nobody,
        onSome: ({ password_hash }) => password_hash
      })
      return (password) =>
        Effect.gen(function* () {
          if (!(yield* Passwords.verify(password, stored, costs)) || Option.isNone(row)) return Option.none()
          const { name, operator } = row.value
          if (!Passwords.isCurrent(stored)) yield* FiberSet.run(replacing, replace(name, password, stored))
          return Option.some({ name, operator })
        })
    }),
    isOperator: Effect.fn("Users.isOperator")(function* (name) {
      return isName(name) && Option.exists(yield* failed(find(name)), ({ operator }) => operator)
    }),
    isThere: (name) => (isName(name) ? Effect.map(failed(find(name)), Option.isSome) : Effect.succeed(false)),
    put: Effect.fn("Users.put")(function* ({ name, operator, password }) {
      if (!isName(name)) return yield* notText
      const hash = yield* Passwords.hash(password)
      const debt = { name, owes: randomUUID() }
      yield* failed(
        sql`insert into holdfast.users (name, password_hash, operator, owes) values (${name}, ${hash}, ${operator}, ${debt.owes})
          on conflict (name) do update set password_hash = excluded.password_hash, operator = excluded.operator,
            owes = excluded.owes, removed = false`
      )
      return debt
    }),
    setOperator,
    remove: Effect.fn("Users.remove")(function* (name) {
      if (!isName(name)) return Option.none()
      const owes = randomUUID()
      const removed = yield* failed(
        sql`update holdfast.users set removed = true, operator = false, password_hash = ${Passwords.nobody}, owes = ${owes}
          where name = ${name} returning name`
      )
      return removed.length === 0 ? Option.none() : Option.some({ name, owes })
    }),
    debts: failed(debts(undefined)),
    paid: Effect.fn("Users.paid")(function* ({ name, owes }) {
      yield* failed(sql`delete from holdfast.users where name = ${name} and owes = ${owes} and removed`)
      yield* failed(sql`update holdfast.users set owes = null where name = ${name} and owes = ${owes}`)
    }),
    names: Effect.map(failed(names(undefined)), (rows) => rows.map(({ name }) => name))
  })
})

/** The users of the database in context. */
export const layer: Layer.Layer<Users, never, SqlClient.SqlClient> = Layer.effect(Users, make)
