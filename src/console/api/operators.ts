/**
 * What operators look at. Readiness and metrics need no session and are asked for without one: looking is no activity.
 */
import { client, run } from "./client.ts"

export const holdings = () => run(client.operators.holdings({ query: { limit: 2000 } }))
export type Holding = Awaited<ReturnType<typeof holdings>>["holdings"][number]

/** Ends a session, or cancels a query; settles when what this instance held for it is released. */
export const end = (kind: string, id: string) => run(client.operators.end({ params: { kind, id } }))

const anonymous = { credentials: "omit" } as const

export interface Readiness {
  readonly isReady: boolean
  readonly waitingFor: ReadonlyArray<string>
  readonly enginesAway: ReadonlyArray<string>
}

/** Which parts of the service can do their work. */
export const readiness = async (): Promise<Readiness> => {
  const response = await fetch("/health/ready", anonymous)
  const { enginesAway = [], waitingFor = [] } = (await response.json()) as Partial<Readiness>
  return { isReady: response.ok, waitingFor, enginesAway }
}

const line = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? ([^ ]+)/

/** A sample of Prometheus's text format. */
export interface Sample {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

/** Reads the text format. */
export const parse = (text: string): ReadonlyArray<Sample> =>
  text.split("\n").flatMap((each) => {
    const [, name, labels = "", value] = line.exec(each) ?? []
    if (name === undefined) return []
    const pairs = Array.from(labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g), ([, key = "", text = ""]) => [key, text])
    return [{ name, labels: Object.fromEntries(pairs) as Record<string, string>, value: Number(value) }]
  })

export const metrics = async (): Promise<ReadonlyArray<Sample>> =>
  parse(await (await fetch("/metrics", anonymous)).text())
