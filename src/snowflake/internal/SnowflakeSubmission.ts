/**
 * A statement as it is sent: bindings, session parameters, the time after which the server ends it.
 */
import * as Duration from "effect/Duration"
import type { Execution, Statement } from "../../query/QueryDriver.ts"
import type { Submission } from "./SnowflakeApi.ts"
import type { Limits } from "./SnowflakeOptions.ts"
import * as SnowflakeValues from "./SnowflakeValues.ts"

/** How much later than the deadline the server ends a statement by itself, because we are gone. In seconds. */
const grace = 1

/** The longest timeout that Snowflake takes, in seconds: a week. */
const longest = 604_800

const timeoutOf = (deadline: Duration.Duration): number =>
  Math.min(Math.ceil(Duration.toSeconds(deadline)) + grace, longest)

/** A query tag has room for so many characters. */
const tagLength = 2000

/** Names of parameters are the same in capitals or not. Ours come last. */
const parametersOf = (
  { id }: Pick<Execution, "id">,
  given: ReadonlyArray<Readonly<Record<string, string>>>
): Record<string, string> => {
  const parameters: Record<string, string> = {}
  for (const some of given) for (const [name, value] of Object.entries(some)) parameters[name.toLowerCase()] = value
  const { query_tag: tag } = parameters
  return {
    ...parameters,
    query_tag: `holdfast ${id}${tag === undefined ? "" : ` ${tag}`}`.slice(0, tagLength),
    // How values are written is not for a user's or an account's settings to decide.
    binary_output_format: "HEX"
  }
}

/** These would have values written in a form that cannot be read exactly. */
const formats = /^(?:binary|date|time|timestamp(?:_(?:ltz|ntz|tz))?)_output_format$/i

const problemOf = ({ settings = {}, sql }: Statement): string | undefined => {
  const inSql = SnowflakeValues.unsendable(sql)
  if (inSql !== undefined) return `The statement holds ${inSql}. Remove it.`
  for (const [name, value] of Object.entries(settings)) {
    const problem = SnowflakeValues.unsendable(name + value)
    if (problem !== undefined) return `A setting of the statement holds ${problem}. Remove it.`
    if (formats.test(name)) return `The setting ${name} would change how values are written. Leave it out.`
  }
  return undefined
}

/** The submission, or what is wrong with the statement. */
export const of = (
  statement: Statement,
  execution: Pick<Execution, "deadline" | "id">,
  { context, parameters }: Pick<Limits, "context" | "parameters">
): Submission | string => {
  const problem = problemOf(statement)
  if (problem !== undefined) return problem
  const bindings: Record<string, SnowflakeValues.Binding> = {}
  for (const [index, param] of statement.params.entries()) {
    try {
      bindings[String(index + 1)] = SnowflakeValues.encode(param)
    } catch (error) {
      if (!(error instanceof SnowflakeValues.Refused)) throw error
      return `The parameter ${index + 1} ${error.message}.`
    }
  }
  return {
    statement: statement.sql,
    ...context,
    ...(execution.deadline !== undefined && { timeout: timeoutOf(execution.deadline) }),
    ...(statement.params.length > 0 && { bindings }),
    parameters: parametersOf(execution, [parameters, statement.settings ?? {}])
  }
}

/** Whether it is one statement, of which the first word tells what it is. */
export const isOne = ({ parameters }: Submission): boolean => (parameters["multi_statement_count"] ?? "1") === "1"
