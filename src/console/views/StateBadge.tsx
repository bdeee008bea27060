/**
 * The state of a query or an execution, as a word with a colour.
 */
import { type State, toneOf } from "../api/queries.ts"
import { useWords } from "../text/text.ts"

export const StateBadge = ({ state }: { readonly state: State }) => {
  const words = useWords()
  return <span class={`badge ${toneOf(state)}`}>{words.states[state]}</span>
}
