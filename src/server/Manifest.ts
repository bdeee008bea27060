/**
 * What `package.json` says of this Holdfast.
 */
import { readFileSync } from "node:fs"
import * as Schema from "effect/Schema"

const Manifest = Schema.fromJsonString(
  Schema.Struct({
    version: Schema.String,
    /** The versions of packages that this Holdfast works with, as npm writes them. */
    peerDependencies: Schema.Record(Schema.String, Schema.String)
  })
)

/** As it was when the process began. */
export const manifest = Schema.decodeSync(Manifest)(
  readFileSync(new URL("../../package.json", import.meta.url), "utf8")
)
