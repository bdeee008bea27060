/**
 * The HTTP API of the service, defined once: the server implements it, `/openapi.json` and `/docs` describe it, and
 * clients are derived from it.
 */
import * as HttpApi from "effect/http-api/HttpApi"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as OpenApi from "effect/http-api/OpenApi"
import * as Schema from "effect/Schema"
import { FunctionApi } from "../http/FunctionApi.ts"
import { Preconditions } from "../http/Preconditions.ts"
import * as Problem from "../http/Problem.ts"
import { QueryApi } from "../http/QueryApi.ts"
import * as QueryProblem from "../http/QueryProblem.ts"
import { OriginRefused } from "../http/SameOrigin.ts"
import * as SessionApi from "../http/SessionApi.ts"
import { Holdings } from "./Holdings.ts"
import { about, aboutLimited, limit } from "../http/internal/Wire.ts"
import * as Metrics from "./Metrics.ts"
import { Required } from "./ServiceGate.ts"

/** A store or database that the service uses cannot be reached. */
export class NotReady extends Problem.Class<NotReady>()("NotReady", 503, "The service is not ready", {
  waitingFor: Schema.Array(Schema.String)
}) {}

class SessionsGroup extends HttpApiGroup.make("sessions").add(
  SessionApi.login.middleware(Preconditions),
  SessionApi.logout.middleware(Preconditions),
  SessionApi.current.middleware(Preconditions).middleware(Required),
  SessionApi.events.middleware(Preconditions).middleware(Required),
  SessionApi.data.middleware(Preconditions).middleware(Required),
  SessionApi.patchData.middleware(Preconditions).middleware(Required),
  SessionApi.putData.middleware(Preconditions).middleware(Required),
  SessionApi.devices.middleware(Preconditions).middleware(Required),
  SessionApi.end.middleware(Preconditions).middleware(Required),
  SessionApi.endOthers.middleware(Preconditions).middleware(Required)
) {}

class HealthGroup extends HttpApiGroup.make("health").add(
  HttpApiEndpoint.get("live", "/health/live", {
    success: Schema.Struct({ status: Schema.Literal("live") })
  }).annotateMerge(about("Whether the process answers", "Needs nothing but the process itself.")),
  HttpApiEndpoint.get("ready", "/health/ready", {
    success: Schema.Struct({
      status: Schema.Literal("ready"),
      /** Engines that cannot be used now, where there are some; others can. */
      enginesAway: Schema.optionalKey(Schema.Array(Schema.String))
    }),
    error: NotReady
  }).annotateMerge(
    about(
      "Whether the service can do its work",
      "503 names what it waits for. With several engines for queries it is ready while one of them can be used, and names those that cannot."
    )
  ),
  HttpApiEndpoint.get("metrics", "/metrics", {
    success: Schema.String.pipe(HttpApiSchema.asText({ contentType: Metrics.contentType }))
  }).annotateMerge(about("Metrics", "For Prometheus. They tell numbers and no names."))
) {}

/** Asked by somebody who is no operator. */
export class OperatorsOnly extends Problem.Class<OperatorsOnly>()("OperatorsOnly", 403, "This is for operators only") {}

/** Nothing of this kind and id is held here, or it cannot be ended by hand. */
export class HoldingNotFound extends Problem.Class<HoldingNotFound>()(
  "HoldingNotFound",
  404,
  "No such thing is held"
) {}

class OperatorsGroup extends HttpApiGroup.make("operators").add(
  HttpApiEndpoint.get("holdings", "/holdings", {
    query: {
      /** Default: 1,000. */
      limit: limit(10_000),
      /** Of which instances. Default: of the one that answers. */
      instances: Schema.optionalKey(Schema.Literal("all"))
    },
    success: Holdings,
    error: [OperatorsOnly, QueryProblem.QueriesUnavailable]
  }).annotateMerge(
    aboutLimited(
      "What the process holds",
      "For operators: the ledger as a tree, those held for longest first. With instances=all, where instances share their queries, each instance is a holding of kind `instance` with what it holds under it; one that does not answer within two seconds is `stalled`.",
      10_000,
      1000
    )
  ),
  HttpApiEndpoint.delete("end", "/holdings/:kind/:id", {
    params: { kind: Schema.String, id: Schema.String },
    success: HttpApiSchema.NoContent,
    error: [OperatorsOnly, HoldingNotFound, Problem.NotFound, OriginRefused, QueryProblem.QueriesUnavailable]
  }).annotateMerge(
    about(
      "End what is held",
      "For operators: ends a `session`, anybody's and on every instance, with all that is held under it, or cancels a `query`, on every instance that shares its queries with this one. Answers after what this instance held for it is released, and after the query is over."
    )
  )
) {}

export class HoldfastApi extends HttpApi.make("holdfast")
  .add(SessionsGroup)
  .add(QueryApi.middleware(Preconditions).middleware(Required))
  .add(FunctionApi.middleware(Preconditions).middleware(Required))
  .add(OperatorsGroup.middleware(Preconditions).middleware(Required))
  .add(HealthGroup.middleware(Preconditions))
  .middleware(Problem.Requests)
  // A misspelt member is a mistake of the caller's, and is named.
  .annotate(HttpApi.PayloadParseOptions, { onExcessProperty: "error", errors: "all" })
  .annotateMerge(
    OpenApi.annotations({
      title: "Holdfast",
      description:
        "Log in, run SQL as query fibers that belong to your session, watch and cancel them, log out: everything your session held is released. A path that is not one of these is answered with 404, and a method that a path does not have with 405 and the header Allow; both are problems (RFC 9457), as is every other error."
    })
  ) {}
