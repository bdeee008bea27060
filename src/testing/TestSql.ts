/**
 * A real database for each test, as if no other test had ever written to it.
 *
 * A **sandbox** ({@link layerSandbox}) is one transaction that lives as long as its layer and is always rolled back: when the test
 * succeeds, fails or is interrupted. It costs a few milliseconds. A **database of its own** ({@link layerTemplate}) is cloned from
 * a migrated template, lives as long as its layer and is dropped at the end; it costs some 100 milliseconds and has no limits.
 *
 * **When to use**
 *
 * A sandbox for almost every test: tests on one database run in parallel and see nothing of each other. A database of its own for
 * what a sandbox cannot do.
 *
 * **Details**
 *
 * A sandbox is a server of PostgreSQL's protocol on a port of its own. Whatever takes a URL can run in it: `PgSessionStore`, a
 * `ConnectionPool`, the app's `SqlClient`, another library, another process. All of their connections lead to one connection to
 * the database:
 *
 * - `BEGIN`, `COMMIT` and `ROLLBACK` of the app become savepoints. A `COMMIT` checks deferred constraints.
 * - Each statement outside of a transaction has a savepoint, so that one that fails spoils nothing.
 * - Statements of concurrent fibers take turns. A transaction has the turn until its end.
 * - `now()`, `transaction_timestamp()` and `current_timestamp` in the text of a statement say when the app's transaction, or its
 *   statement, began. In the defaults of columns and in functions they say when the sandbox began.
 *
 * **Gotchas**
 *
 * What a sandbox cannot do, because it is one connection and one transaction: notifications are never delivered (`LISTEN`,
 * `NOTIFY`), locks keep nobody of the same test out, numbers that a sequence has given are not given again in another test,
 * isolation levels have no effect, a setting of a session (`SET`) holds for all connections of the test, what refuses to run in a
 * transaction (`VACUUM`, `CREATE INDEX CONCURRENTLY`, `CREATE DATABASE`) fails. Two tests that insert the same unique value, or change the same
 * table's definition, wait for each other.
 *
 * A transaction that waits for something that has to run outside of it would wait for ever. That is noticed, and what waits gets an error
 * that explains it (`40P01`).
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import * as Reactivity from "effect/reactivity/Reactivity"
import type * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as ConnectionPool from "../connection/ConnectionPool.ts"
import { ConnectionSource } from "../connection/ConnectionSource.ts"
import * as PgConnectionSource from "../postgres/PgConnectionSource.ts"
import * as Sandbox from "./internal/Sandbox.ts"
import * as TestSqlClient from "./internal/TestSqlClient.ts"
import * as TestSqlDatabase from "./internal/TestSqlDatabase.ts"
import * as PgTarget from "../postgres/internal/PgTarget.ts"

/** The database of a test: for whatever takes a URL. */
export class TestSql extends Context.Service<
  TestSql,
  {
    /** Of the sandbox, or of the database of its own. Good as long as the layer. */
    readonly url: Redacted.Redacted<string>
    /** The process id of the one backend of a sandbox; `undefined` where there is none but those of the app. */
    readonly backend: number | undefined
  }
>()("holdfast/testing/TestSql") {}

/** A database with the app's tables, which the tests of a file share. */
export class TestDatabase extends Context.Service<
  TestDatabase,
  {
    /** A sandbox for the current scope. */
    readonly sandbox: Effect.Effect<TestSql["Service"], SqlError, Scope.Scope>
    /** A copy of the database for the current scope. */
    readonly copy: Effect.Effect<TestSql["Service"], SqlError, Scope.Scope>
  }
>()("holdfast/testing/TestSql/TestDatabase") {}

/** Where tests get their databases from. */
export interface Options {
  /** Of a role that may create databases (`CREATEDB`), in any database of the server. */
  readonly url: Redacted.Redacted<string>
  /**
   * For how long a transaction of a sandbox may run nothing while a statement outside of it waits; then the statement fails with an error
   * that explains it. In real time, whatever the test's clock says. Default: 1 second.
   */
  readonly patience?: Duration.Input | undefined
}

/** Sandboxes in a database, whose first connection is opened now. */
const sandboxes = Effect.fnUntraced(function* (url: Redacted.Redacted<string>, { patience }: Options) {
  const backends = yield* Sandbox.backends(url)
  const millis = Duration.toMillis(Duration.fromInputUnsafe(patience ?? "1 second"))
  return Effect.gen(function* () {
    const { broken, pid, url } = yield* Sandbox.make(backends, millis)
    yield* Effect.addFinalizer(() => {
      const problem = broken()
      return problem === undefined ? Effect.void : Effect.die(new Error(`${problem}.`))
    })
    return TestSql.of({ url, backend: pid })
  })
})

const copied = (copy: Effect.Effect<{ readonly url: Redacted.Redacted<string> }, SqlError, Scope.Scope>) =>
  Effect.map(copy, ({ url }) => TestSql.of({ url, backend: undefined }))

/**
 * Makes a database with the app's tables, for as long as the layer lives.
 *
 * **When to use**
 *
 * Once for a file of tests, with `layer(…)` of `@effect/vitest`, or for the whole run. `migrate` is given the URL of the new, empty
 * database, and must have closed its connections when it is done.
 */
export const layerDatabase = <E, R>(
  options: Options & { readonly migrate: (url: Redacted.Redacted<string>) => Effect.Effect<unknown, E, R> }
): Layer.Layer<TestDatabase, E | SqlError, Exclude<R, Scope.Scope>> =>
  Layer.effect(
    TestDatabase,
    Effect.gen(function* () {
      const template = yield* TestSqlDatabase.create(options.url)
      yield* Effect.scoped(options.migrate(template.url))
      const copy = yield* TestSqlDatabase.copies(options.url, template.name)
      const { url } = yield* copy
      return TestDatabase.of({ sandbox: yield* sandboxes(url, options), copy: copied(copy) })
    })
  )

/** Uses the database of a URL as it is: sandboxes are in it, and it is what is copied, when nobody else is connected. */
export const layerExisting = (options: Options): Layer.Layer<TestDatabase, SqlError> =>
  Layer.effect(
    TestDatabase,
    Effect.gen(function* () {
      const { database } = PgTarget.of(options.url)
      const copy = yield* TestSqlDatabase.copies(TestSqlDatabase.urlOf(options.url, "postgres"), database)
      return TestDatabase.of({ sandbox: yield* sandboxes(options.url, options), copy: copied(copy) })
    })
  )

/** Does something with an `SqlClient` of its own for a database, such as making its tables. */
export const connect = <A, E, R>(
  url: Redacted.Redacted<string>,
  work: (sql: SqlClient.SqlClient) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, Exclude<R, Scope.Scope>> =>
  Effect.flatMap(TestSqlClient.make(url), work).pipe(Effect.provide(Reactivity.layer), Effect.scoped)

/** What a test gets: its database, an ordinary `SqlClient`, and a source of connections for a `ConnectionPool`. */
export type Provided = TestSql | SqlClient.SqlClient | ConnectionSource | ConnectionPool.ConnectionPool

/**
 * An empty database for the current scope, for a test that makes its tables itself. Dies at the end where a connection to it was left
 * open, and names it. The role of the URL is one that may create databases (`CREATEDB`).
 */
export const makeEmpty = (
  url: Redacted.Redacted<string>
): Effect.Effect<{ readonly name: string; readonly url: Redacted.Redacted<string> }, SqlError, Scope.Scope> =>
  TestSqlDatabase.create(url)

/** A pool and its source, which are made when somebody first uses one of them: most tests use neither. */
const pooled = (url: Redacted.Redacted<string>) =>
  Layer.effectContext(
    Effect.gen(function* () {
      const scope = yield* Effect.scope
      const made = yield* Effect.cached(
        Layer.buildWithScope(
          ConnectionPool.layer().pipe(Layer.provideMerge(PgConnectionSource.layer({ url })), Layer.fresh),
          scope
        )
      )
      const pool = Effect.map(made, (context) => Context.get(context, ConnectionPool.ConnectionPool))
      const certain = Effect.orDie(pool)
      return Context.make(
        ConnectionPool.ConnectionPool,
        ConnectionPool.ConnectionPool.of({
          lease: (options) => Effect.flatMap(pool, ({ lease }) => lease(options)),
          stats: Effect.flatMap(certain, ({ stats }) => stats),
          ping: Effect.flatMap(pool, ({ ping }) => ping),
          evictAll: Effect.flatMap(certain, ({ evictAll }) => evictAll),
          suspend: Effect.flatMap(certain, ({ suspend }) => suspend)
        })
      ).pipe(
        Context.add(
          ConnectionSource,
          ConnectionSource.of({
            name: PgTarget.whereOf(url),
            open: Effect.flatMap(made, (context) => Context.get(context, ConnectionSource).open)
          })
        )
      )
    })
  )

const providing = <E, R>(test: Layer.Layer<TestSql, E, R>): Layer.Layer<Provided, E, R> =>
  Layer.unwrap(
    Effect.map(TestSql, ({ url }) =>
      Layer.merge(Layer.effect(SqlClient.SqlClient, TestSqlClient.make(url)), pooled(url))
    )
  ).pipe(Layer.provideMerge(test), Layer.provide(Reactivity.layer), Layer.fresh)

/**
 * A transaction for a test, rolled back at its end. Dies at the end where the transaction was ended before.
 */
export const layerSandbox: Layer.Layer<Provided, SqlError, TestDatabase> = providing(
  Layer.effect(
    TestSql,
    Effect.flatMap(TestDatabase, ({ sandbox }) => sandbox)
  )
)

/**
 * A database for one test alone, copied from the one with the app's tables: for what a sandbox cannot do. Dies at the end where a
 * connection to it was left open, and names it.
 */
export const layerTemplate: Layer.Layer<Provided, SqlError, TestDatabase> = providing(
  Layer.effect(
    TestSql,
    Effect.flatMap(TestDatabase, ({ copy }) => copy)
  )
)
