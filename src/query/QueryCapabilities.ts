/**
 * What an engine can do for the queries that run on it, and so what it cannot.
 *
 * A driver declares them; nothing finds them out. They are for those who write statements and for those who watch over
 * them; the registry behaves the same on every engine.
 */
import * as Schema from "effect/Schema"

export const QueryCapabilities = Schema.Struct({
  /**
   * What ends a statement that is cancelled: `statement`, the server ends it and says so; `connection`, its connection is closed
   * and the statement ends with it; `none`, nothing: it runs to its end, and the query keeps its place until then.
   */
  cancel: Schema.Literals(["statement", "connection", "none"]),
  /** Whether rows are taken from the engine as they are stored or read. Otherwise all of them are in memory first. */
  streams: Schema.Boolean,
  /** Whether a statement without an outcome has written nothing, but for the kinds of statements that the engine's page names. */
  undoes: Schema.Boolean,
  /** Whether a statement can have settings of its own, see `Statement` in `QueryDriver`. */
  settings: Schema.Boolean,
  /** Whether the engine itself ends a statement that is past its deadline when nobody is left to cancel it. */
  deadline: Schema.Boolean,
  /** Whether columns have types, and are known where there are no rows. */
  columnTypes: Schema.Boolean,
  /**
   * Whether a parameter is read as the type that the statement wants there. Otherwise it arrives as what it is in JSON, and the
   * statement has to convert it.
   */
  parameterTypes: Schema.Boolean,
  /** Whether what the engine remarks while a statement runs is kept. */
  notices: Schema.Boolean,
  /** Whether users can have roles of their own in it. */
  roles: Schema.Boolean,
  /** How the first parameter is written, such as `$1` or `?`. */
  placeholder: Schema.String
})
export type QueryCapabilities = typeof QueryCapabilities.Type

const lacks: { readonly [Name in keyof QueryCapabilities]: (value: QueryCapabilities[Name]) => string | undefined } = {
  cancel: (how) =>
    ({
      statement: undefined,
      connection: "cancel: the connection goes with the statement",
      none: "cancel: a statement runs to its end"
    })[how],
  streams: (has) => (has ? undefined : "streams: all rows are in memory first"),
  undoes: (has) => (has ? undefined : "undoes: what a cancelled statement wrote may stay"),
  settings: (has) => (has ? undefined : "settings: a statement has none of its own"),
  deadline: (has) => (has ? undefined : "deadline: the engine does not end a statement by itself"),
  columnTypes: (has) => (has ? undefined : "columnTypes: columns have no types"),
  parameterTypes: (has) => (has ? undefined : "parameterTypes: the statement has to convert its parameters"),
  notices: (has) => (has ? undefined : "notices: remarks are not kept"),
  roles: (has) => (has ? undefined : "roles: all users run as one"),
  placeholder: () => undefined
}

/** What is left out, each as a name and what that means. */
export const leftOut = (capabilities: QueryCapabilities): ReadonlyArray<string> =>
  (Object.keys(lacks) as ReadonlyArray<keyof QueryCapabilities>).flatMap((name) => {
    const lack = (lacks[name] as (value: QueryCapabilities[keyof QueryCapabilities]) => string | undefined)(
      capabilities[name]
    )
    return lack === undefined ? [] : [lack]
  })
