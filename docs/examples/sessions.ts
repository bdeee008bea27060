// A shop. Each region answers one question about its sessions.
// Run it: npx node --conditions=holdfast-source docs/examples/sessions.ts
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { Effect, Layer, Option, Schema, Stream } from "effect"
import { HttpRouter, HttpServerRequest, HttpServerResponse } from "effect/http"
import { Session, SessionId, Sessions } from "holdfast"
import * as MemorySessions from "holdfast/http/MemorySessions"
import * as SessionMiddleware from "holdfast/http/SessionMiddleware"
import { createServer } from "node:http"

const { json, text } = HttpServerResponse
const accounts = new Map([
  ["alice", "wonderland"],
  ["olga", "helpdesk"]
])
const isRight = (username: string, password: string) => Effect.sync(() => accounts.get(username) === password)
const wrong = text("Wrong name or password\n", { status: 401 })
const mayActForOthers = (username: string) => username === "olga"
/** A rule of the app's own, for handlers behind `Http.loggedIn`. */
const forOperators = <E, R>(handler: Effect.Effect<HttpServerResponse.HttpServerResponse, E, R>) =>
  Effect.flatMap(SessionMiddleware.Principal, (principal) =>
    mayActForOthers(principal) ? handler : Effect.succeed(text("Only operators may do that\n", { status: 403 }))
  )

// #region data
const Version1 = Schema.Struct({ cart: Schema.Array(Schema.String) })
const Item = Schema.Struct({ sku: Schema.String, count: Schema.Int })

/** From version 1 to version 2. In version 1 the cart had names only. */
export const cartOfNames = (old: Schema.Json) => ({
  cart: Schema.decodeUnknownSync(Version1)(old).cart.map((sku) => ({ sku, count: 1 }))
})

export class AppSession extends Session.Service<AppSession>()("shop/AppSession", {
  data: Schema.Struct({ cart: Schema.Array(Item) }),
  initial: { cart: [] },
  version: 2,
  migrations: { 1: cartOfNames },
  undecodable: "fail",
  maxBytes: 16_384,
  idleTimeout: "30 minutes",
  absoluteTimeout: "12 hours",
  maxPerPrincipal: 5
}) {}
// #endregion

// #region modify
/** Two requests at the same time may both add an item: none is lost. */
const add = Effect.gen(function* () {
  const item = yield* HttpServerRequest.schemaBodyJson(Item)
  const session = yield* AppSession
  const { cart } = yield* session.modify(({ cart }) => ({ cart: [...cart, item] }))
  return text(`${cart.length} in the cart\n`)
})
// #endregion

// #region replace
/** A form shows the cart with its version. */
const form = Effect.gen(function* () {
  const session = yield* AppSession
  return yield* json(yield* session.versioned)
})

/** The form is sent: 409 `SessionConflict` if somebody changed the cart meanwhile. */
const save = Effect.gen(function* () {
  const Form = Schema.Struct({ version: Schema.Int, data: Schema.Struct({ cart: Schema.Array(Item) }) })
  const { data, version } = yield* HttpServerRequest.schemaBodyJson(Form)
  const session = yield* AppSession
  return yield* json(yield* session.replace(data, { version }))
})
// #endregion

// #region login
const Credentials = Schema.Struct({
  username: Schema.String,
  password: Schema.String,
  remember: Schema.optionalKey(Schema.Boolean)
})

const login = ({ epoch }: Sessions.Sessions["Service"]) =>
  Effect.gen(function* () {
    const { password, remember = false, username } = yield* HttpServerRequest.schemaBodyJson(Credentials)
    const { headers, remoteAddress } = yield* HttpServerRequest.HttpServerRequest
    const before = yield* epoch(username) // before the account is read
    if (!(yield* isRight(username, password))) return wrong
    const session = yield* AppSession
    yield* session.authenticate(username, {
      epoch: before,
      policy: remember ? { idleTimeout: "14 days", absoluteTimeout: "30 days" } : {},
      userAgent: headers["user-agent"] ?? "unknown",
      ip: Option.getOrElse(remoteAddress, () => "unknown")
    })
    return text(`Hello ${username}\n`)
  })
// #endregion

// #region expiry
/** "Keep me logged in", chosen after the login. The cookie gets the new times as well. */
const keep = Effect.gen(function* () {
  const session = yield* AppSession
  const { expiresAt } = yield* session.setExpiry({ idleTimeout: "14 days", absoluteTimeout: "30 days" })
  return yield* json({ expiresAt })
})
// #endregion

// #region reauthentication
const Password = Schema.Struct({ password: Schema.String })

/** Proves again who the user is. The session stays, with a new token. */
const confirm = Effect.gen(function* () {
  const { password } = yield* HttpServerRequest.schemaBodyJson(Password)
  const principal = yield* SessionMiddleware.Principal
  if (!(yield* isRight(principal, password))) return wrong
  const session = yield* AppSession
  yield* session.authenticate(principal)
  return text("Thank you\n")
})

/** Behind `Http.fresh`: 401 `ReauthenticationRequired` if the last login is too long ago. */
const changePassword = Effect.gen(function* () {
  const { password } = yield* HttpServerRequest.schemaBodyJson(Password)
  accounts.set(yield* SessionMiddleware.Principal, password)
  const session = yield* AppSession
  const ended = yield* session.revokeOthers
  return text(`${ended.length} other sessions ended\n`)
})
// #endregion

// #region rotation
/** The user got more rights, without a login: the old token must not have them. */
const upgrade = Effect.gen(function* () {
  const session = yield* AppSession
  yield* session.rotate
  return text("You are a gold customer now\n")
})
// #endregion

// #region operator
const Customer = Schema.Struct({ customer: Schema.String })

/** An operator looks at the shop as the customer sees it, in a session of its own. */
const actAs = Effect.gen(function* () {
  const operator = yield* SessionMiddleware.Principal
  const { customer } = yield* HttpRouter.schemaPathParams(Customer)
  const session = yield* AppSession
  yield* session.authenticate(customer, { actor: operator, policy: { absoluteTimeout: "15 minutes" } })
  return text(`You act for ${customer}\n`)
})

const whoami = Effect.gen(function* () {
  const { actor, principal } = yield* (yield* AppSession).record
  return text(actor === null ? `${principal}\n` : `${actor} for ${principal}\n`)
})
// #endregion

// #region devices
const devices = Effect.gen(function* () {
  const session = yield* AppSession
  return yield* json(yield* session.devices)
})

/** Ends one of the user's own sessions. Others' sessions it does not find. */
const endDevice = Effect.gen(function* () {
  const { id } = yield* HttpRouter.schemaPathParams(Schema.Struct({ id: SessionId.SessionId }))
  const session = yield* AppSession
  const wasLive = yield* session.revoke(id)
  return HttpServerResponse.empty({ status: wasLive ? 204 : 404 })
})
// #endregion

// #region visitors
/** For an operator: the carts of visitors, and the end of all their sessions. */
const visitorCarts = ({ visitors }: Sessions.Sessions["Service"]) =>
  Effect.gen(function* () {
    const records = yield* Stream.runCollect(visitors)
    return yield* json(records.map(({ data, id, lastSeenAt }) => ({ id, lastSeenAt, data })))
  })

const endVisitors = ({ endVisitors }: Sessions.Sessions["Service"]) =>
  Effect.gen(function* () {
    const count = yield* endVisitors
    return text(`${count} sessions ended\n`)
  })
// #endregion

// #region work
/** Goes on after the response, and ends with the session at the latest. */
const watchPrice = Effect.gen(function* () {
  const session = yield* AppSession
  yield* session.run(
    Effect.log("The price was looked at").pipe(
      Effect.delay("10 seconds"),
      Effect.forever,
      Effect.onInterrupt(() => Effect.log("Nobody watches the price any more"))
    )
  )
  return text("You will be told\n")
})
// #endregion

const logout = Effect.gen(function* () {
  yield* (yield* AppSession).logout
  return text("Bye\n")
})

// #region gates
const Http = SessionMiddleware.make(AppSession)

const everybody = HttpRouter.addAll(
  Effect.map(Sessions.Sessions, (sessions) => [
    HttpRouter.route("POST", "/cart", add),
    HttpRouter.route("POST", "/login", login(sessions)),
    HttpRouter.route("POST", "/logout", logout)
  ])
)
const withSession = HttpRouter.addAll([HttpRouter.route("GET", "/cart", form), HttpRouter.route("PUT", "/cart", save)])
const members = HttpRouter.addAll([
  HttpRouter.route("GET", "/whoami", whoami),
  HttpRouter.route("POST", "/keep", keep),
  HttpRouter.route("POST", "/confirm", confirm),
  HttpRouter.route("POST", "/upgrade", upgrade),
  HttpRouter.route("POST", "/watch", watchPrice),
  HttpRouter.route("POST", "/act-as/:customer", forOperators(actAs)),
  HttpRouter.route("GET", "/devices", devices),
  HttpRouter.route("DELETE", "/devices/:id", endDevice)
])
const sensitive = HttpRouter.addAll([HttpRouter.route("PUT", "/password", changePassword)])
const operators = HttpRouter.addAll(
  Effect.map(Sessions.Sessions, (sessions) => [
    HttpRouter.route("GET", "/visitors", forOperators(visitorCarts(sessions))),
    HttpRouter.route("DELETE", "/visitors", forOperators(endVisitors(sessions)))
  ])
)

export const routes = Layer.mergeAll(
  everybody.pipe(Layer.provide(Http.middleware)),
  withSession.pipe(Layer.provide(Http.required)),
  members.pipe(Layer.provide(Http.loggedIn)),
  sensitive.pipe(Layer.provide(Http.fresh({ within: "10 minutes" }))),
  operators.pipe(Layer.provide(Http.loggedIn))
)
// #endregion

// #region store
export const SessionsLive = MemorySessions.layer({ origin: "http://localhost:3000", pollInterval: "10 seconds" })
// #endregion

export const app = HttpRouter.serve(Layer.provide(routes, SessionsLive))

const server = NodeHttpServer.layer(createServer, { port: 3000 })

if (import.meta.main) NodeRuntime.runMain(Layer.launch(app.pipe(Layer.provide(server))))
