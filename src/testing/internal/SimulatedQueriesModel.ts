/** What must be true of every record of a query that anybody gets to see. */
import type { QueryId } from "../../query/QueryId.ts"
import type { QueryRecord } from "../../query/QueryRecord.ts"
import type { World } from "./SimulatedScenario.ts"

/** The design's picture, said once more: a history is one of these paths. */
const path =
  /^Queued( Starting( Running( Succeeded)?)?)?( Failed)?$|^Queued( Starting( Running)?)? Canceling( Canceled| Succeeded| Failed)?$/
export const outcomes: ReadonlySet<string> = new Set(["Succeeded", "Failed", "Canceled"])

/**
 * Holds each record against all that were seen before. `busy` are the queries whose statement runs; `mayFail` says whether one may
 * fail by itself, or at its deadline.
 */
export const witness = (world: World, busy: ReadonlySet<QueryId>, mayFail: (id: QueryId) => boolean) => {
  const seen = new Map<QueryId, string>()
  return (record: QueryRecord) => {
    const states = record.transitions.map(({ state }) => state)
    const told = states.filter((state) => state !== "Expired").join(" ")
    if (!path.test(told)) world.broke("Q2 a history is a path of the picture", told)
    if (states.at(-1) !== record.state)
      world.broke("Q2 the last transition is the state", `${told}, but ${record.state}`)
    const before = seen.get(record.id) ?? ""
    if (!told.startsWith(before) && !before.startsWith(told))
      world.broke("Q2 a history only grows", `${before}, then ${told}`)
    if (told.length > before.length) seen.set(record.id, told)
    const isOver = states.some((state) => outcomes.has(state))
    if (isOver && busy.has(record.id)) world.broke("Q1 a terminal state is visible only after the release", told)
    if ((record.error !== null) !== states.some((state) => state === "Failed" || state === "Canceled"))
      world.broke("Q2 an error is told where there is one", told)
    if ((record.rowCount !== null) !== states.includes("Succeeded"))
      world.broke("Q2 rows are counted where there are some", told)
    if ((record.rowCount ?? 0) > 0 && record.bytes === 0)
      world.broke("Q5 a record tells how large its rows are", `${record.rowCount} rows of 0 bytes`)
    if (states.includes("Canceling") && states.includes("Failed") && !mayFail(record.id))
      world.broke("Q2 what is cancelled and does not fail is Canceled", told)
  }
}
