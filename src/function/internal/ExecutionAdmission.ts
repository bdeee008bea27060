/**
 * Who of those that want to execute a function may, and who waits.
 */
import * as Effect from "effect/Effect"
import type * as FairSemaphore from "../../lifetime/FairSemaphore.ts"
import * as Admission from "../../lifetime/internal/Admission.ts"
import { FunctionError, FunctionRejected } from "../FunctionError.ts"

export type Place = FairSemaphore.Place<FunctionError>

/** Makes the places. */
export const make = (options: Admission.Options) =>
  Effect.map(
    Admission.make(options, (rejection) => new FunctionError({ reason: new FunctionRejected(rejection) })),
    (admission) => ({
      ...admission,
      /** Takes note of one that was rejected. */
      count: (metrics: { readonly rejected: (limit: string) => void }, { reason }: FunctionError): void => {
        if (reason._tag === "FunctionRejected") metrics.rejected(reason.limit)
      }
    })
  )
