/**
 * How a statement runs: on which engine, with which parameters, for how long.
 */
import { useStore } from "../app/store.ts"
import { useWords } from "../text/text.ts"
import * as SqlState from "./sqlState.ts"

export const SqlOptions = ({ engines }: { readonly engines: ReadonlyArray<SqlState.Engine> }) => {
  const words = useWords()
  const engine = useStore(SqlState.engine)
  return (
    <div class="sql-options">
      <label class="field inline grow">
        <span class="hidden">{words.parameters}</span>
        <input
          class="mono"
          value={useStore(SqlState.params)}
          placeholder={words.parametersHint}
          spellcheck={false}
          autocomplete="off"
          onInput={(event) => SqlState.params.set(event.currentTarget.value)}
        />
      </label>
      <label class="field inline">
        {words.deadline}
        <select
          value={useStore(SqlState.deadline)}
          onChange={(event) => SqlState.deadline.set(event.currentTarget.value)}
        >
          {Object.entries(words.deadlines)
            .toSorted(([a], [b]) => (Number(a) || 0) - (Number(b) || 0))
            .map(([millis, name]) => (
              <option key={millis} value={millis}>
                {name}
              </option>
            ))}
        </select>
      </label>
      {engines.length > 1 && (
        <label class="field inline">
          {words.engine}
          <select value={engine} onChange={(event) => SqlState.engine.set(event.currentTarget.value)}>
            {engines.map(({ name, ready }, index) => (
              <option key={name} value={index === 0 ? "" : name}>
                {ready ? name : words.engineAway(name)}
              </option>
            ))}
          </select>
        </label>
      )}
    </div>
  )
}
