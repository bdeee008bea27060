/** What a law of session stores is. */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { SessionStore } from "../../session/SessionStore.ts"
import type { Law } from "./Laws.ts"

/** What not every world of a store has. */
export type Need = "clock" | "clockBack" | "hints"

/** What a trial is given. */
export interface Instances {
  readonly store: SessionStore["Service"]
  readonly another: SessionStore["Service"]
  readonly advance: (by: Duration.Input) => Effect.Effect<void, unknown>
}

/** A law that is tried on two instances. */
export const law = (
  name: string,
  needs: ReadonlyArray<Need>,
  trial: (instances: Instances) => Effect.Effect<unknown, unknown, Scope.Scope>
): Law<Instances, Need> => ({ name, needs, trial })
