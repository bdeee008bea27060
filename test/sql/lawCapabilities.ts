/** What the laws of query drivers ask of an engine, by what the engine declares. */
import type { QueryCapabilities } from "../../src/query/QueryCapabilities.ts"
import type { Capabilities } from "../query/queryDriverLaws.ts"

export const lawCapabilities = (
  { cancel, columnTypes, notices, parameterTypes, settings, streams }: QueryCapabilities,
  more: Partial<Capabilities> = {}
): Capabilities => ({
  cancels: cancel !== "none",
  streams,
  settings,
  // What the server says then is its own: each engine has a test for it.
  deadlines: false,
  rowsWhileRunning: streams && columnTypes,
  notices,
  parameterTypes,
  ...more
})
