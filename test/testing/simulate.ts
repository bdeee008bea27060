/**
 * Plays seeds of the simulation until time is up. `npm run simulate -- --seeds 1000000 --minutes 60` looks for laws that break,
 * `--scenario sessions --seed 4711` plays one seed again.
 */
import { parseArgs } from "node:util"
import * as Simulation from "../../src/testing/Simulation.ts"

const { values } = parseArgs({
  options: {
    scenario: { type: "string" },
    seed: { type: "string" },
    seeds: { type: "string", default: "10000" },
    from: { type: "string", default: "0" },
    minutes: { type: "string", default: "10" },
    most: { type: "string", default: "3" }
  }
})
const names = Object.keys(Simulation.scenarios) as ReadonlyArray<keyof typeof Simulation.scenarios>
const chosen = names.filter((name) => values.scenario === undefined || values.scenario === name)
if (chosen.length === 0) {
  console.error(`There is no scenario ${values.scenario}. Choose one of ${names.join(", ")}, or none for all.`)
  process.exit(1)
}
const [seeds, from, minutes] = [Number(values.seeds), Number(values.from), Number(values.minutes)]

for (const name of chosen) {
  const scenario = Simulation.scenarios[name]
  const found = Simulation.search(scenario, {
    from: values.seed === undefined ? from : Number(values.seed),
    seeds: values.seed === undefined ? seeds / chosen.length : 1,
    within: (minutes * 60_000) / chosen.length,
    most: Number(values.most)
  })
  for (const broken of found.broken) console.log(`${Simulation.report(broken)}\n`)
  const rate = Math.round((found.seeds / found.millis) * 1000)
  console.log(`${name}: ${found.seeds} seeds, ${rate} a second, ${found.broken.length} broke a law`)
  if (found.broken.length > 0) process.exitCode = 1
}
