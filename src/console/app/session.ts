/**
 * The session of this browser, for the whole page.
 */
import * as SessionState from "../../browser/SessionState.ts"
import { whenUnauthorized } from "../api/client.ts"
import type { Readable } from "./store.ts"

export const session = SessionState.make()
whenUnauthorized(session.unauthorized)

/** What is known of it, for components. */
export const sessionStore: Readable<SessionState.Snapshot> = { get: session.snapshot, subscribe: session.subscribe }
