/** The session stores of other libraries, for their servers. */
import { createRequire } from "node:module"
import { storeUrl } from "../http/work.ts"

export const require = createRequire(import.meta.url)

/** A store as `express-session` knows it. */
export interface Store {
  destroy(id: string, done: (error: unknown) => void): void
}

/** The store that `BENCH_STORE` names, with what its library sets by itself. */
export const openStore = async (session: unknown): Promise<Store> => {
  if (process.env.BENCH_STORE === "postgres") {
    const { Pool } = require("pg")
    const PgStore = require("connect-pg-simple")(session)
    return new PgStore({ pool: new Pool({ connectionString: storeUrl, max: 10 }), createTableIfMissing: true })
  }
  const client = require("redis").createClient({ url: storeUrl })
  await client.connect()
  return new (require("connect-redis").RedisStore)({ client })
}

/** Which sessions somebody has: an app keeps this itself, since these stores cannot tell. */
export const owned = (store: Store) => {
  const ids = new Map<string, Set<string>>()
  return {
    add: (principal: string, id: string) => {
      const all = ids.get(principal) ?? new Set()
      ids.set(principal, all.add(id))
    },
    /** Ends all of somebody's sessions but one. */
    revokeOthers: async (principal: string, mine: string) => {
      const others = [...(ids.get(principal) ?? [])].filter((id) => id !== mine)
      await Promise.all(
        others.map(
          (id) =>
            new Promise<void>((resolve, reject) => store.destroy(id, (error) => (error ? reject(error) : resolve())))
        )
      )
    }
  }
}
