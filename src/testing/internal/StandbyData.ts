/**
 * A base backup of a running server, and what a standby on it is asked.
 *
 * The copy lives as long as its directory. PostgreSQL, "Making a Base Backup Using the Low Level API".
 */
import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { promises as Fs } from "node:fs"
import * as Path from "node:path"
import { inRealTime } from "../../embedded/Postmaster.ts"
import * as PgDirect from "../../postgres/internal/PgDirect.ts"
import * as PgTarget from "../../postgres/internal/PgTarget.ts"

/** What the standby is called at its primary. */
export const name = "holdfast_standby"

/** Asks on a connection of its own. */
const asking = <A>(
  url: Redacted.Redacted<string>,
  work: (
    ask: (
      sql: string
    ) => Effect.Effect<ReadonlyArray<ReadonlyArray<unknown>>, Effect.Error<ReturnType<typeof PgDirect.connect>>>
  ) => Effect.Effect<A, Effect.Error<ReturnType<typeof PgDirect.connect>>>
) =>
  PgDirect.connect({ ...PgTarget.of(url).config, applicationName: "holdfast-standby-maker" }).pipe(
    Effect.flatMap((connection) => work((sql) => connection.queryValues(sql, [], false))),
    Effect.scoped,
    inRealTime
  )

/** What belongs to the running server alone. */
const left: ReadonlySet<string> = new Set(["postmaster.pid", "postmaster.opts", "pg_replslot"])

const gone = (cause: unknown) => {
  if (cause instanceof Error && Reflect.get(cause, "code") === "ENOENT") return undefined
  throw cause
}

/** Copies files as they are, and their owners; what goes away meanwhile is left out. */
const copyAll = async (from: string, to: string): Promise<void> => {
  const stat = await Fs.lstat(from).catch(gone)
  if (stat === undefined) return
  if (stat.isDirectory()) {
    await Fs.mkdir(to, { mode: stat.mode })
    for (const name of await Fs.readdir(from)) {
      if (!left.has(name)) await copyAll(Path.join(from, name), Path.join(to, name))
    }
  } else await Fs.copyFile(from, to).catch(gone)
  await Fs.chown(to, stat.uid, stat.gid).catch(gone)
}

const write = async (data: string, name: string, text: string) => {
  const file = Path.join(data, name)
  const { gid, uid } = await Fs.stat(data)
  await Fs.writeFile(file, text, { mode: 0o600 })
  await Fs.chown(file, uid, gid)
}

const Label = Schema.Tuple([Schema.Tuple([Schema.String])])

/** Copies the data of a running server for a standby. */
export const copy = (url: Redacted.Redacted<string>, from: string, to: string) =>
  asking(url, (ask) =>
    Effect.gen(function* () {
      yield* ask("select pg_backup_start('holdfast', true)")
      yield* Effect.promise(() => copyAll(from, to))
      const [label] = yield* Effect.orDie(
        Schema.decodeUnknownEffect(Label)(yield* ask("select labelfile from pg_backup_stop(false)"))
      )
      yield* Effect.promise(async () => {
        const { gid, uid } = await Fs.stat(from)
        await Fs.mkdir(Path.join(to, "pg_replslot"), { mode: 0o700 })
        await Fs.chown(Path.join(to, "pg_replslot"), uid, gid)
        await write(to, "backup_label", label[0])
        await write(to, "standby.signal", "")
      })
    })
  )

const isTrue = (rows: ReadonlyArray<ReadonlyArray<unknown>>) => rows[0]?.[0] === true

/** Waits until something is so, however long that takes: the caller has a limit of its own. */
const until = (asked: Effect.Effect<boolean, Effect.Error<ReturnType<typeof PgDirect.connect>>>) =>
  Effect.asVoid(Effect.repeat(asked, { until: (is) => is, schedule: Schedule.spaced("10 millis") }))

/** Waits until the primary sends to the standby; from then on, its commits may wait for it. */
export const follows = (primary: Redacted.Redacted<string>, synchronous: boolean) =>
  asking(primary, (ask) =>
    Effect.gen(function* () {
      const found = `select exists (select from pg_stat_replication where application_name = '${name}' and state = 'streaming')`
      yield* until(Effect.map(ask(found), isTrue))
      if (!synchronous) return
      yield* ask(`alter system set synchronous_standby_names = '${name}'`)
      yield* ask("select pg_reload_conf()")
      const waits = `select exists (select from pg_stat_replication where application_name = '${name}' and sync_state = 'sync')`
      yield* until(Effect.map(ask(waits), isTrue))
    })
  )

/** The primary's commits wait for nobody any more, where it can still be told. */
export const forget = (primary: Redacted.Redacted<string>) =>
  Effect.ignore(
    asking(primary, (ask) =>
      Effect.andThen(ask("alter system reset synchronous_standby_names"), ask("select pg_reload_conf()"))
    )
  )

/** Whether a server may only be read. */
export const isStandby = (url: Redacted.Redacted<string>) =>
  asking(url, (ask) => Effect.map(ask("select pg_is_in_recovery()"), isTrue))

/** Makes it a primary. */
export const promote = (url: Redacted.Redacted<string>) =>
  asking(url, (ask) =>
    Effect.gen(function* () {
      if (!isTrue(yield* ask("select pg_is_in_recovery()"))) {
        return yield* Effect.die(new Error("Only a standby can be promoted: make one with makeStandby"))
      }
      yield* ask("select pg_promote(true, 60)")
      yield* until(Effect.map(ask("select not pg_is_in_recovery()"), isTrue))
    })
  )

/** Waits until the standby has replayed what the primary has written until now. */
export const caughtUp = (primary: Redacted.Redacted<string>, standby: Redacted.Redacted<string>) =>
  Effect.gen(function* () {
    const [row] = yield* asking(primary, (ask) => ask("select pg_current_wal_flush_lsn()::text"))
    const replayed = `select pg_last_wal_replay_lsn() >= '${String(row?.[0])}'::pg_lsn`
    yield* asking(standby, (ask) => until(Effect.map(ask(replayed), isTrue)))
  })
