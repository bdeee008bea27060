/**
 * The TLS parameters of a PostgreSQL URL, which mean here what they mean to psql (libpq, "SSL Support"), or are stricter.
 *
 * **Details**
 *
 * | `sslmode`         | encrypted          | the server's certificate                                            |
 * | ----------------- | ------------------ | ------------------------------------------------------------------- |
 * | none, `disable`   | no                 | –                                                                   |
 * | `allow`, `prefer` | if the server can  | of an authority that Node knows, for the host's name                |
 * | `require`         | yes                | any; with `sslrootcert` as `verify-ca`                              |
 * | `verify-ca`       | yes                | of an authority in `sslrootcert`, for any name                      |
 * | `verify-full`     | yes                | of an authority in `sslrootcert`, for the host's name               |
 *
 * Without `sslrootcert`, or with `system`, the authorities are those that Node knows (`NODE_EXTRA_CA_CERTS` adds to them). `system`
 * always means `verify-full`. `sslcert` and `sslkey` name the client's own certificate and key, in PEM. The files
 * are read when the connections are configured. A socket path has no TLS, as with libpq.
 */
import type * as PgConnection from "@effect/sql-pg/PgConnection"
import { readFileSync } from "node:fs"

/** What is wrong with a file that a parameter names. */
export const problemOfFile = (path: string): string | undefined => {
  if (path === "system") return undefined
  try {
    return readFileSync(path, "utf8").includes("-----BEGIN ") ? undefined : "must name a file in PEM"
  } catch {
    return "must name a file that Holdfast can read"
  }
}

/** The options of the driver; none where its own reading of the URL is the same. */
export const of = (parameters: ReadonlyMap<string, string>): Pick<PgConnection.Config, "ssl"> => {
  const mode = parameters.get("sslmode")
  if (mode === undefined || !["require", "verify-ca", "verify-full"].includes(mode)) return {}
  const file = (name: string) => {
    const path = parameters.get(name)
    return path === undefined || path === "system" ? undefined : readFileSync(path, "utf8")
  }
  const [ca, cert, key] = [file("sslrootcert"), file("sslcert"), file("sslkey")]
  const isSystem = parameters.get("sslrootcert") === "system"
  const isVerified = mode !== "require" || isSystem || ca !== undefined
  return {
    ssl: {
      rejectUnauthorized: isVerified,
      ...(ca !== undefined && { ca }),
      ...(cert !== undefined && { cert }),
      ...(key !== undefined && { key }),
      ...(mode !== "verify-full" && !isSystem && { checkServerIdentity: () => undefined })
    }
  }
}
