/**
 * What the benchmarks compare with, in a package of its own: nobody who installs Holdfast, or works on it, gets it along.
 *
 * The types here say what the benchmarks use of it, no more.
 */
import { spawnSync } from "node:child_process"
import { existsSync, readFileSync, writeFileSync } from "node:fs"
import { createRequire } from "node:module"
import { join } from "node:path"

export interface Pg {
  readonly Pool: new (options: { readonly connectionString: string; readonly max: number }) => {
    query(query: {
      readonly name: string
      readonly text: string
      readonly values: ReadonlyArray<unknown>
    }): Promise<{ readonly rows: ReadonlyArray<Readonly<Record<string, unknown>>> }>
    end(): Promise<void>
  }
}

export type Postgres = (
  url: string,
  options: { readonly max: number }
) => {
  (text: TemplateStringsArray, ...values: ReadonlyArray<unknown>): Promise<ReadonlyArray<Record<string, unknown>>>
  end(): Promise<void>
}

export type ConnectPgSimple = (session: unknown) => new (options: {
  readonly pool: InstanceType<Pg["Pool"]>
  readonly createTableIfMissing: boolean
  readonly pruneSessionInterval: false
}) => {
  get(id: string, done: (error: unknown, session?: unknown) => void): void
  set(id: string, session: unknown, done: (error: unknown) => void): void
  touch(id: string, session: unknown, done: (error: unknown) => void): void
}

export interface NodeRedis {
  createClient(options: { readonly url: string; readonly name: string }): {
    connect(): Promise<unknown>
    destroy(): void
    get(key: string): Promise<string | null>
    sendCommand(command: ReadonlyArray<string>): Promise<unknown>
  }
}

export type ConnectRedis = new (options: {
  readonly client: ReturnType<NodeRedis["createClient"]>
  readonly prefix: string
}) => {
  get(id: string): Promise<unknown>
  set(id: string, session: unknown): Promise<unknown>
  touch(id: string, session: unknown): Promise<unknown>
}

/** Installs the contenders where that was not done yet for what their lock file says. */
export const install = () => {
  const directory = import.meta.dirname
  const lock = readFileSync(join(directory, "package-lock.json"), "utf8")
  const stamp = join(directory, "node_modules", ".installed-lock.json")
  if (!existsSync(stamp) || readFileSync(stamp, "utf8") !== lock) {
    console.log("Installing what to compare with: npm ci, in test/bench/contenders")
    const options = { cwd: directory, stdio: "inherit", shell: process.platform === "win32" } as const
    const { status } = spawnSync("npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund"], options)
    if (status !== 0) throw new Error("`npm ci` in test/bench/contenders failed. Run it there and look why.")
    writeFileSync(stamp, lock)
  }
}

/** Loads the contenders, which are installed first. */
export const contenders = () => {
  install()
  const require = createRequire(import.meta.url)
  return {
    pg: require("pg") as Pg,
    postgres: require("postgres") as Postgres,
    redis: require("redis") as NodeRedis,
    connectRedis: (require("connect-redis") as { readonly RedisStore: ConnectRedis }).RedisStore,
    connectPgSimple: (require("connect-pg-simple") as ConnectPgSimple)(require("express-session"))
  }
}
