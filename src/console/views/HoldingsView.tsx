/**
 * For operators: what the process holds, since when and for whom, as a tree; which parts are ready; and how it went over time.
 */
import { useEffect, useState } from "preact/hooks"
import { CallFailed } from "../api/client.ts"
import * as Operators from "../api/operators.ts"
import { isActive } from "../app/activity.ts"
import { lazy } from "../app/lazy.tsx"
import { useStore } from "../app/store.ts"
import type { ChartProps } from "../charts/Chart.tsx"
import * as History from "../charts/history.ts"
import { useWords } from "../text/text.ts"
import { HoldingTree } from "./HoldingTree.tsx"

const Chart = lazy<ChartProps>(() => import("../charts/Chart.tsx").then((it) => it.Chart))

const every = 2000

const Readiness = ({ readiness }: { readonly readiness: Operators.Readiness | null }) => {
  const words = useWords()
  if (readiness === null) return null
  const { enginesAway, isReady, waitingFor } = readiness
  return (
    <span class="row" aria-label={words.readiness} role="group">
      <span class={`badge ${isReady ? "ok" : "bad"}`}>
        {isReady ? words.ready : words.waitingFor(waitingFor.join(", "))}
      </span>
      {enginesAway.length > 0 && <span class="badge wait">{words.enginesAway(enginesAway.join(", "))}</span>}
    </span>
  )
}

/** Asks again and again while the component is there and somebody looks. */
const useLooks = <A,>(
  look: () => Promise<A>,
  isOn: boolean,
  onLook: (found: A) => void,
  onProblem: (error: unknown) => void
) => {
  useEffect(() => {
    if (!isOn) return
    let isGone = false
    let timer = 0
    const go = async () => {
      await look().then(
        (found) => !isGone && onLook(found),
        (error: unknown) => !isGone && onProblem(error)
      )
      if (!isGone) timer = window.setTimeout(() => void go(), every)
    }
    void go()
    return () => {
      isGone = true
      clearTimeout(timer)
    }
  }, [isOn])
}

const Charts = () => {
  const words = useWords()
  const [held, setHeld] = useState<ReadonlyArray<History.Look>>([])
  const [queries, setQueries] = useState<ReadonlyArray<History.Look>>([])
  const [pool, setPool] = useState<ReadonlyArray<History.Look>>([])
  useLooks(
    Operators.metrics,
    true,
    (samples) => {
      const at = Date.now() / 1000
      const taken = (name: string, label: string) => ({ at, values: History.byLabel(samples, name, label) })
      setHeld((all) => History.add(all, taken("holdfast_held", "kind")))
      setQueries((all) => History.add(all, taken("holdfast_queries", "state")))
      setPool((all) => History.add(all, taken("holdfast_connections_open", "source")))
    },
    () => undefined
  )
  const states = History.series(queries)
  const named: Readonly<Record<string, string>> = words.states
  const inWords = { ...states, names: states.names.map((name) => named[name] ?? name) }
  const charts = [
    { title: words.chartHeld, ...History.series(held) },
    { title: words.chartQueries, ...inWords },
    { title: words.chartPool, ...History.series(pool) }
  ].filter(({ names }) => names.length > 0)
  return (
    <div class="charts">
      {charts.map((chart) => (
        <Chart key={chart.title} {...chart} />
      ))}
    </div>
  )
}

export const HoldingsView = () => {
  const words = useWords()
  const isOn = useStore(isActive)
  const [found, setFound] = useState<Awaited<ReturnType<typeof Operators.holdings>> | null>(null)
  const [readiness, setReadiness] = useState<Operators.Readiness | null>(null)
  const [problem, setProblem] = useState<CallFailed | null>(null)
  const isForbidden = problem?.code === "OperatorsOnly"
  useLooks(
    Operators.holdings,
    isOn && !isForbidden,
    (found) => {
      setFound(found)
      setProblem(null)
    },
    (error) => setProblem(error instanceof CallFailed ? error : new CallFailed("Failed", String(error)))
  )
  useLooks(Operators.readiness, true, setReadiness, () => setReadiness(null))
  return (
    <section class="view" aria-label={words.views.holdings}>
      <div class="head">
        <h1>{words.views.holdings}</h1>
        {!isOn && <span class="muted small">{words.paused}</span>}
        <Readiness readiness={readiness} />
      </div>
      {isForbidden && (
        <div class="panel empty">
          <strong>{words.operatorsOnly}</strong>
          <span>{words.operatorsHint}</span>
          <code>holdfast user add NAME --operator</code>
        </div>
      )}
      {problem !== null && !isForbidden && (
        <p class="note bad" role="alert">
          {problem.message}
        </p>
      )}
      {found !== null && !isForbidden && (
        <>
          <Charts />
          <div class="panel">
            <div class="result-bar">
              <b>{words.holdingsTotal(found.total)}</b>
              {found.omitted > 0 && <span class="muted">{words.holdingsOmitted(found.omitted)}</span>}
            </div>
            <HoldingTree holdings={found.holdings} />
          </div>
        </>
      )}
      {found === null && problem === null && <p class="panel empty">{words.loading}</p>}
    </section>
  )
}
