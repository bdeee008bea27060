import { existsSync, promises as Fs, readFileSync, statSync } from "node:fs"
import * as Path from "node:path"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as EmbeddedPostgres from "../../src/embedded/EmbeddedPostgres.ts"
import { eventually } from "../support/conditions.ts"
import { checkout, query, refusal } from "../support/embedded.ts"

class Embedded extends Context.Service<Embedded, EmbeddedPostgres.EmbeddedPostgres["Service"]>()("test/Embedded") {}

const started = Layer.effect(Embedded, Effect.flatMap(checkout(), EmbeddedPostgres.make))

/** What a role may set for itself, and what would hold up or mislead the next of its statements. */
const traps = {
  transaction_timeout: "1",
  statement_timeout: "1",
  lock_timeout: "1",
  idle_session_timeout: "1",
  default_transaction_read_only: "on",
  search_path: "evil, pg_catalog",
  local_preload_libraries: "nowhere",
  exit_on_error: "on",
  row_security: "off",
  standard_conforming_strings: "off",
  work_mem: "64",
  enable_indexscan: "off",
  debug_print_parse: "on",
  TimeZone: "Asia/Tokyo"
}

layer(started, { excludeTestServices: true, timeout: "60 seconds" })("the role of users' SQL", (it) => {
  it.effect("I2 what it sets for itself changes no connection that is opened with the settings of the service", () =>
    Effect.gen(function* () {
      const { repair, settings, workspaceUrl } = yield* Embedded
      const pinned = yield* settings
      const own = yield* PgConnection.make({ url: workspaceUrl })
      yield* own.query("create schema evil")
      yield* own.query("create view evil.pg_stat_activity as select 1 as pid")
      for (const [name, value] of Object.entries(traps)) {
        const list = name === "search_path" ? value : `'${value}'`
        yield* own.query(`alter role workspace set ${name} = ${list}`)
        yield* own.query(`alter role workspace in database workspace set ${name} = ${list}`)
      }
      assert.match(yield* refusal(workspaceUrl), /nowhere|timeout/)
      const opened = yield* PgConnection.make({
        url: workspaceUrl,
        startupParameters: { ...pinned, statement_timeout: "0" }
      })
      for (const [name, value] of Object.entries(traps)) {
        const [[is]] = (yield* opened.queryValues(`select pg_catalog.current_setting('${name}')`)) as [[string]]
        assert.notStrictEqual(is.toLowerCase(), value.toLowerCase(), name)
      }
      // Also after what undoes everything that a user has set.
      yield* opened.query("discard all")
      const [[path]] = (yield* opened.queryValues("show search_path")) as [[string]]
      assert.strictEqual(path, '"$user", public')
      yield* repair
      assert.deepStrictEqual(
        yield* query(
          workspaceUrl,
          "select count(*)::int from pg_db_role_setting s join pg_roles r on r.oid = s.setrole"
        ),
        [[0]]
      )
    })
  )

  it.effect("has its password put back while the server runs, by many at once", () =>
    Effect.gen(function* () {
      const { repair, workspaceUrl } = yield* Embedded
      yield* query(workspaceUrl, "alter role workspace password 'x'")
      assert.match(yield* refusal(workspaceUrl), /password authentication failed/)
      yield* Effect.all([repair, repair, repair], { concurrency: "unbounded" })
      assert.deepStrictEqual(yield* query(workspaceUrl, "select 1"), [[1]])
    })
  )

  it.effect("I3 writes nothing to the server's log, has a bound for temporary files and one for connections", () =>
    Effect.gen(function* () {
      const { directory, workspaceUrl } = yield* Embedded
      const log = Path.join(directory, "data.log")
      yield* query(workspaceUrl, "do $$ begin for i in 1..1000 loop raise log 'whisper %', i; end loop; end $$")
      yield* query(workspaceUrl, "set debug_print_parse = on").pipe(
        Effect.andThen(query(workspaceUrl, "do $$ begin set debug_print_parse = on; perform 'whisper'; end $$"))
      )
      yield* Effect.flip(query(workspaceUrl, "select 'whisper' / 0"))
      assert.notInclude(readFileSync(log, "utf8"), "whisper")
      for (const change of ["set log_min_messages = 'log'", "set temp_file_limit = -1", "connection limit -1"]) {
        const refused = yield* Effect.flip(query(workspaceUrl, `alter role workspace ${change}`))
        assert.match(String(refused.reason.cause), /permission denied/)
      }
      assert.deepStrictEqual(
        yield* query(
          workspaceUrl,
          "select current_setting('temp_file_limit'), (select datconnlimit from pg_database where datname = 'workspace')"
        ),
        [["1GB", 80]]
      )
    })
  )

  it.effect("I3 the server's log has a size, whoever fills it", () =>
    Effect.gen(function* () {
      const { directory, ownerUrl, workspaceUrl } = yield* Embedded
      const log = Path.join(directory, "data.log")
      yield* Effect.promise(() => Fs.appendFile(log, "x".repeat(3 * 1024 * 1024)))
      yield* eventually(
        Effect.sync(() => statSync(log).size),
        (size) => size < 1024 * 1024
      )
      assert.isTrue(existsSync(`${log}.old`))
      // The server goes on at its end.
      const wrong = new URL("postgres://workspace:wrong@127.0.0.1/workspace")
      wrong.port = String((yield* Embedded).port)
      yield* Effect.flip(PgConnection.make({ url: Redacted.make(wrong.href) }).pipe(Effect.scoped))
      yield* eventually(
        Effect.sync(() => readFileSync(log, "utf8")),
        (text) => /^\d{4}-.*password authentication failed/.test(text)
      )
      assert.deepStrictEqual(yield* query(ownerUrl, "select 1"), yield* query(workspaceUrl, "select 1"))
    })
  )
})
