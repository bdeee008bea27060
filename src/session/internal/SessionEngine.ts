/**
 * How a handle on a session works; what it offers is `SessionHandle.Session`.
 *
 * A handle lives as long as the scope it is made in. It asks the store for nothing until somebody asks it for something,
 * then loads the session once and holds it here until its scope closes.
 *
 * ```
 * Unloaded ──┬──► Live ────► Ended    logged out, or found ended; only a login leads on from here
 *            └──► Visitor ──► Live    the first change, or a login, makes a session
 * ```
 *
 * What it knows is in `SessionReading`, what it does in `SessionActs`.
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { authenticatedAt } from "../SessionRecord.ts"
import type { Sessions } from "../Sessions.ts"
import * as SessionActs from "./SessionActs.ts"
import type { Session } from "./SessionHandle.ts"
import * as SessionLayers from "./SessionLayers.ts"
import type * as SessionLogin from "./SessionLogin.ts"
import { type Options, SessionReading } from "./SessionReading.ts"

export type { Options }

type Acts<Data> = ReturnType<typeof SessionActs.make<Data>>

class Handle<Data> extends SessionReading<Data> implements Session<Data> {
  #acts: Acts<Data> | undefined = undefined

  private get acts(): Acts<Data> {
    return (this.#acts ??= SessionActs.make(this))
  }
  get record(): Session<Data>["record"] {
    return Effect.map(this.required, ({ record }) => record)
  }
  get id(): Session<Data>["id"] {
    return Effect.map(this.required, ({ record }) => record.id)
  }
  get principal(): Session<Data>["principal"] {
    return Effect.map(this.settle, (known) => (known._tag === "Live" ? known.record.principal : null))
  }
  get authenticatedAt(): Session<Data>["authenticatedAt"] {
    return Effect.map(this.settle, (known) => (known._tag === "Live" ? authenticatedAt(known.record) : null))
  }
  get data(): Session<Data>["data"] {
    return Effect.map(this.snapshot, ({ data }) => data)
  }
  get versioned(): Session<Data>["versioned"] {
    return Effect.map(this.snapshot, ({ data, version }) => ({ data, version }))
  }
  get quarantined(): Session<Data>["quarantined"] {
    return Effect.map(this.snapshot, ({ quarantined }) => quarantined)
  }
  get lifetime(): Session<Data>["lifetime"] {
    return Effect.map(this.required, ({ lifetime }) => lifetime)
  }
  get modify() {
    return this.acts.modify
  }
  get replace() {
    return this.acts.replace
  }
  get authenticate() {
    return this.acts.authenticate
  }
  get renew() {
    return this.acts.renew
  }
  get rotate() {
    return this.acts.rotate
  }
  get setExpiry() {
    return this.acts.setExpiry
  }
  get touch() {
    return this.acts.touch
  }
  get logout() {
    return this.acts.logout
  }
  get devices() {
    return this.acts.devices
  }
  get revoke() {
    return this.acts.revoke
  }
  get revokeOthers() {
    return this.acts.revokeOthers
  }
  get run(): Session<Data>["run"] {
    return (effect) => Effect.flatMap(this.required, ({ lifetime }) => SessionLayers.run(lifetime, effect))
  }
  get provide(): Session<Data>["provide"] {
    return <ROut, E2, RIn>(layer: Layer.Layer<ROut, E2, RIn>) =>
      <A, E, R>(effect: Effect.Effect<A, E, R>) =>
        Effect.flatMap(this.required, ({ lifetime }) => SessionLayers.provide(lifetime, layer)(effect))
  }
}

/** Makes a handle on the session of a token, or of nobody yet, for the scope in the context. Asks the store for nothing. */
export const make = <Data>(
  config: SessionLogin.Config<Data>,
  context: Context.Context<Sessions | Scope.Scope>,
  options: Options
): Session<Data> => new Handle(config, context, options)
