/**
 * The tree of what is held (WAI-ARIA Authoring Practices, "Tree View"): arrows move, open and close.
 */
import { useRef, useState } from "preact/hooks"
import * as Operators from "../api/operators.ts"
import type { Holding } from "../api/operators.ts"
import { useNow } from "../app/clock.ts"
import { say, sayError } from "../app/status.ts"
import { useWords } from "../text/text.ts"
import { millisOf, moment, span } from "../text/times.ts"

interface Line {
  readonly key: string
  readonly holding: Holding
  readonly level: number
  readonly isOpen: boolean
}

const keyOf = ({ id, kind }: Holding, under: string): string => `${under}/${kind} ${id}`

/** What is seen: those whose holders are all open. */
const linesOf = (
  holdings: ReadonlyArray<Holding>,
  closed: ReadonlySet<string>,
  level = 1,
  under = ""
): ReadonlyArray<Line> =>
  holdings.flatMap((holding, index) => {
    const key = `${keyOf(holding, under)} ${index}`
    const isOpen = holding.holdings.length > 0 && !closed.has(key)
    return [{ key, holding, level, isOpen }, ...(isOpen ? linesOf(holding.holdings, closed, level + 1, key) : [])]
  })

/** What people hold comes before what the service holds for all. */
const inOrder = (holdings: ReadonlyArray<Holding>): ReadonlyArray<Holding> => {
  const rankOf = ({ kind }: Holding) => (kind === "session" ? 0 : kind === "query" ? 1 : 2)
  return holdings.toSorted((a, b) => rankOf(a) - rankOf(b))
}

const tones = { held: "ok", ending: "wait", stalled: "bad" } as const

const Attributes = ({ attributes }: { readonly attributes: Holding["attributes"] }) => (
  <span class="attributes">
    {Object.entries(attributes).map(([name, value]) => (
      <span key={name}>
        <small>{name}</small> {String(value)}
      </span>
    ))}
  </span>
)

const most = 500

/** What an operator can end by hand. */
const endable = new Set(["session", "query"])

export const HoldingTree = ({ holdings }: { readonly holdings: ReadonlyArray<Holding> }) => {
  const words = useWords()
  const [ending, setEnding] = useState("")
  const end = async ({ id, kind }: Holding) => {
    setEnding(id)
    try {
      await Operators.end(kind, id)
      say(kind === "query" ? words.queryCanceled : words.sessionEnded)
    } catch (error) {
      sayError(error)
    }
    setEnding("")
  }
  const now = useNow(1000)
  const tree = useRef<HTMLDivElement>(null)
  const [closed, setClosed] = useState<ReadonlySet<string>>(new Set())
  const [active, setActive] = useState("")
  const all = linesOf(inOrder(holdings), closed)
  const lines = all.slice(0, most)
  const current = lines.some(({ key }) => key === active) ? active : (lines[0]?.key ?? "")

  const toggle = (key: string, isOpen: boolean) =>
    setClosed((all) => (isOpen ? new Set(all).add(key) : new Set(Array.from(all).filter((one) => one !== key))))
  const go = (index: number) => {
    const line = lines[Math.min(lines.length - 1, Math.max(0, index))]
    if (line === undefined) return
    setActive(line.key)
    const elements = tree.current?.querySelectorAll<HTMLElement>("[role=treeitem]")
    elements?.[lines.indexOf(line)]?.focus()
  }
  const onKeyDown = (event: KeyboardEvent) => {
    const index = lines.findIndex(({ key }) => key === current)
    const line = lines[index]
    if (line === undefined) return
    const has = line.holding.holdings.length > 0
    const acts: Readonly<Record<string, () => void>> = {
      ArrowDown: () => go(index + 1),
      ArrowUp: () => go(index - 1),
      Home: () => go(0),
      End: () => go(lines.length - 1),
      ArrowRight: () => (has && !line.isOpen ? toggle(line.key, false) : go(index + 1)),
      ArrowLeft: () =>
        line.isOpen
          ? toggle(line.key, true)
          : go(lines.findLastIndex(({ level }, at) => at < index && level < line.level)),
      Enter: () => has && toggle(line.key, line.isOpen),
      Delete: () => endable.has(line.holding.kind) && void end(line.holding)
    }
    const act = acts[event.key]
    if (act === undefined) return
    event.preventDefault()
    act()
  }

  if (lines.length === 0) return <p class="empty">{words.holdingsNone}</p>
  return (
    <div class="tree" role="tree" aria-label={words.views.holdings} ref={tree} onKeyDown={onKeyDown}>
      {lines.map(({ holding, isOpen, key, level }) => {
        const { attributes, id, kind, since, site, state } = holding
        const has = holding.holdings.length > 0
        return (
          <div
            key={key}
            role="treeitem"
            aria-level={level}
            aria-expanded={has ? isOpen : undefined}
            aria-selected={key === current}
            tabIndex={key === current ? 0 : -1}
            style={{ paddingLeft: `${level * 20 - 6}px` }}
            onFocus={() => setActive(key)}
          >
            <span class="twist" aria-hidden="true" onClick={() => has && toggle(key, isOpen)}>
              {has ? (isOpen ? "▾" : "▸") : ""}
            </span>
            <b>{kind}</b>
            {state !== "held" && <span class={`badge ${tones[state]}`}>{state}</span>}
            <span class="mono muted id">{id}</span>
            <Attributes attributes={attributes} />
            {endable.has(kind) && (
              <button
                class="compact danger push"
                tabIndex={-1}
                disabled={ending !== "" || state !== "held"}
                onClick={() => void end(holding)}
              >
                {kind === "query" ? words.cancel : words.end}
              </button>
            )}
            <span
              class={`${endable.has(kind) ? "" : "push"} muted num`}
              title={`${moment(since)}${site === null ? "" : ` ${site}`}`}
            >
              {span(Math.max(0, now - millisOf(since)))}
            </span>
          </div>
        )
      })}
    </div>
  )
}
