/**
 * The `SessionState` of a browser app as an atom, for apps that keep their state in atoms of Effect.
 *
 * The atom lives as long as somebody uses it and listens for as long; the state is yours to close.
 *
 * **Example** (Who is logged in)
 *
 * ```ts
 * const state = SessionState.make()
 * const session = SessionAtom.make(state)
 * const principal = Atom.map(session, (now) => (now.status === "active" ? now.session.principal : null))
 * ```
 */
import * as Atom from "effect/reactivity/Atom"
import type * as SessionState from "./SessionState.ts"

/** What is known of the session, kept up to date. */
export const make = (
  state: Pick<SessionState.SessionState, "snapshot" | "subscribe">
): Atom.Atom<SessionState.Snapshot> =>
  Atom.make((get) => {
    get.addFinalizer(state.subscribe(() => get.setSelf(state.snapshot())))
    return state.snapshot()
  })
