/**
 * The calls of the entity of queries. A call lives as long as its answer takes, ten seconds and a bit at most.
 */
import * as ClusterSchema from "effect/cluster/ClusterSchema"
import type {
  AlreadyProcessingMessage,
  EntityNotAssignedToRunner,
  MailboxFull,
  PersistenceError
} from "effect/cluster/ClusterError"
import * as Duration from "effect/Duration"
import * as Rpc from "effect/rpc/Rpc"
import type * as RpcClient from "effect/rpc/RpcClient"
import * as RpcGroup from "effect/rpc/RpcGroup"
import * as Schema from "effect/Schema"
import { QueryError } from "../../query/QueryError.ts"
import { QueryId } from "../../query/QueryId.ts"
import { QueryRecord } from "../../query/QueryRecord.ts"
import * as QueryState from "../../query/QueryState.ts"

/** So long a call waits for news of a query on the runner, before its caller asks anew. */
export const waitsFor = Duration.seconds(10)

const byId = { id: QueryId }
const Millis = Schema.Finite

/** Runs a statement. */
const Submit = Rpc.make("Submit", {
  payload: {
    sql: Schema.String,
    params: Schema.Array(Schema.Json),
    settings: Schema.optionalKey(Schema.Record(Schema.String, Schema.String)),
    engine: Schema.optionalKey(Schema.String),
    session: Schema.optionalKey(Schema.String),
    deadlineMillis: Schema.optionalKey(Millis),
    retentionMillis: Schema.optionalKey(Millis),
    idempotencyKey: Schema.optionalKey(Schema.String),
    rerun: Schema.optionalKey(Schema.Boolean)
  },
  success: QueryRecord,
  error: QueryError
})
const Status = Rpc.make("Status", { payload: byId, success: QueryRecord, error: QueryError })
/** The record once it has more states than were seen or its last one, or as it is after ten seconds. */
const Wait = Rpc.make("Wait", {
  payload: { ...byId, seen: Schema.Int },
  success: QueryRecord,
  error: QueryError
}).annotate(ClusterSchema.InterruptOnTermination, true)
/** Cancels; the record is as it is after ten seconds, where it is not over before. */
const Cancel = Rpc.make("Cancel", { payload: byId, success: QueryRecord, error: QueryError }).annotate(
  ClusterSchema.InterruptOnTermination,
  true
)
/** Those that are not over; of one session where it is named. */
const Unfinished = Rpc.make("Unfinished", {
  payload: { session: Schema.optionalKey(Schema.String) },
  success: Schema.Array(QueryId),
  error: QueryError
})
const List = Rpc.make("List", {
  payload: {
    state: Schema.optionalKey(Schema.Literals(QueryState.all)),
    limit: Schema.optionalKey(Schema.Int),
    after: Schema.optionalKey(Schema.Finite)
  },
  success: Schema.Struct({ queries: Schema.Array(QueryRecord), next: Schema.optionalKey(Schema.Finite) }),
  error: QueryError
})
const Page = Rpc.make("Page", {
  payload: { ...byId, offset: Schema.Int, limit: Schema.Int },
  success: Schema.Struct({
    columns: Schema.Array(Schema.Struct({ name: Schema.String, type: Schema.String })),
    rows: Schema.Array(Schema.Array(Schema.Json)),
    next: Schema.optionalKey(Schema.Int)
  }),
  error: QueryError
})

export const Calls = RpcGroup.make(Submit, Status, Wait, Cancel, Unfinished, List, Page)

/** Why the cluster has not delivered a call. */
export type Undelivered = MailboxFull | AlreadyProcessingMessage | PersistenceError | EntityNotAssignedToRunner

/** The calls as a caller sees them. */
export type Client = RpcClient.RpcClient.From<RpcGroup.Rpcs<typeof Calls>, Undelivered>
