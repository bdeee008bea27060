/**
 * What a `SnowflakeServer` answers about its statements, as the description of Snowflake's API has it.
 */
import type { Reply } from "./SnowflakeServerHttp.ts"
import type { Failure } from "./SnowflakeServerSql.ts"
import type { Outcome, Statement } from "./SnowflakeServerStatements.ts"

export const json = (status: number, value: unknown, headers: Readonly<Record<string, string>> = {}): Reply => ({
  status,
  headers: { "content-type": "application/json", ...headers },
  body: Buffer.from(JSON.stringify(value))
})

const statusUrl = (handle: string) => `/api/v2/statements/${handle}`

export const about = ({ createdOn, handle }: Statement) => ({
  statementHandle: handle,
  statementStatusUrl: statusUrl(handle),
  createdOn
})

export const pending = (statement: Statement, status = 202): Reply =>
  json(status, {
    code: "333334",
    sqlState: "00000",
    message: "Asynchronous execution in progress. Use provided query id to perform query monitoring and management.",
    ...about(statement)
  })

const failed = (statement: Statement, { code, message, sqlState }: Failure): Reply =>
  json(422, { code, sqlState, message, ...about(statement) })

const links = (handle: string, requestId: string, partition: number, last: number): string => {
  const to = (number: number, rel: string) =>
    `<${statusUrl(handle)}?requestId=${requestId}&partition=${number}>; rel="${rel}"`
  return [
    to(0, "first"),
    ...(partition > 0 ? [to(partition - 1, "prev")] : []),
    ...(partition < last ? [to(partition + 1, "next")] : []),
    to(last, "last")
  ].join(",")
}

const finished = (statement: Statement, { rows, stats }: Extract<Outcome, { _tag: "Succeeded" }>): Reply => {
  const { count, partitions, rowType } = rows
  const head = JSON.stringify({
    code: "090001",
    sqlState: "00000",
    message: "Statement executed successfully.",
    ...about(statement),
    resultSetMetaData: {
      numRows: count,
      format: "jsonv2",
      partitionInfo: partitions.map(({ compressedSize, rowCount, uncompressedSize }) => ({
        rowCount,
        uncompressedSize,
        ...(compressedSize !== undefined && { compressedSize })
      })),
      rowType
    },
    ...(stats !== undefined && { stats })
  })
  const first = partitions[0]?.bytes ?? Buffer.alloc(0)
  return {
    status: 200,
    headers: {
      "content-type": "application/json",
      link: links(statement.handle, statement.requestId, 0, Math.max(partitions.length - 1, 0))
    },
    body: Buffer.concat([Buffer.from(`${head.slice(0, -1)},"data":[`), first, Buffer.from("]}")])
  }
}

export const found = (statement: Statement): Reply => {
  const { outcome } = statement
  if (outcome === undefined) return pending(statement)
  return outcome._tag === "Failed" ? failed(statement, outcome.failure) : finished(statement, outcome)
}

export const partitionOf = (statement: Statement, number: number): Reply => {
  const { outcome } = statement
  if (outcome?._tag !== "Succeeded") return found(statement)
  const { partitions } = outcome.rows
  const partition = partitions[number]
  if (number === 0) return finished(statement, outcome)
  if (partition === undefined) return json(400, { code: "391919", message: `Partition ${number} is out of range.` })
  return {
    status: 200,
    headers: {
      "content-type": "application/json",
      "content-encoding": "gzip",
      link: links(statement.handle, statement.requestId, number, partitions.length - 1)
    },
    body: partition.bytes
  }
}

export const unknown = (handle: string) => ({
  code: "000709",
  sqlState: "02000",
  message: `Statement ${handle} not found`
})
