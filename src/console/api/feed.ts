/**
 * All queries of who is logged in, as they are at any moment, for all tabs over one connection.
 *
 * It lives from `start` to `stop`. The tab that has the lock listens to `GET /queries/events` and tells the others; when it goes,
 * another one takes over. A broken stream is begun again, ever more slowly, up to every half minute.
 */
import * as Store from "../app/store.ts"
import { find, isOver, list, type Query } from "./queries.ts"

type Message = { readonly query: Query } | { readonly isLive: boolean } | { readonly ask: true }

const name = "holdfast console queries"

/** Records of what the service has forgotten by now are dropped when there are more. */
const most = 5000

/** A frame of a screen, in milliseconds. */
const frame = 16
/** The least time between two drawings of all queries, in milliseconds: more often than anybody reads. */
const drawEvery = 100

const make = () => {
  const queries = Store.make<ReadonlyMap<string, Query>>(new Map())
  /** Whether news come in. */
  const isLive = Store.make(false)
  const waiting = new Map<string, Set<(query: Query) => void>>()
  let all = new Map<string, Query>()
  let drawing = 0
  let drawnAt = Number.NEGATIVE_INFINITY
  let stopping: (() => void) | undefined

  // Many may come at once: they are drawn together. What somebody waits for is drawn with the next frame.
  const draw = (isAwaited: boolean) => {
    if (drawing !== 0 && !isAwaited) return
    clearTimeout(drawing)
    const show = () => {
      drawing = 0
      drawnAt = performance.now()
      queries.set(new Map(all))
    }
    drawing = window.setTimeout(show, Math.max(frame, isAwaited ? 0 : drawnAt + drawEvery - performance.now()))
  }
  const take = (query: Query) => {
    const known = all.get(query.id)
    if (known !== undefined && known.transitions.length > query.transitions.length) return
    all.set(query.id, query)
    if (all.size > most) for (const [id] of Array.from(all).slice(0, most / 2)) all.delete(id)
    draw(waiting.has(query.id))
    if (!isOver(query)) return
    for (const resolve of waiting.get(query.id) ?? []) resolve(query)
    waiting.delete(query.id)
  }

  const start = () => {
    stop()
    const halt = new AbortController()
    const channel = new BroadcastChannel(name)
    const tell = (message: Message) => channel.postMessage(message)
    const live = (is: boolean, tellOthers = true) => {
      isLive.set(is)
      if (tellOthers) tell({ isLive: is })
    }
    let hangUp: (() => void) | undefined
    let failures = 0
    let timer = 0

    const listen = () => {
      const source = new EventSource("/queries/events")
      hangUp = () => source.close()
      source.addEventListener("open", () => {
        failures = 0
        live(true)
      })
      source.addEventListener("state", (event: MessageEvent<string>) => {
        const query = JSON.parse(event.data) as Query
        take(query)
        tell({ query })
      })
      source.addEventListener("error", () => {
        source.close()
        live(false)
        timer = window.setTimeout(listen, Math.min(30_000, 500 * 2 ** failures++) * (0.5 + Math.random() / 2))
      })
    }
    void navigator.locks
      .request(name, { signal: halt.signal }, () => {
        listen()
        return new Promise<void>((done) => halt.signal.addEventListener("abort", () => done()))
      })
      .catch(() => undefined)
    channel.addEventListener("message", ({ data }: MessageEvent<Message>) => {
      if ("query" in data) take(data.query)
      else if ("isLive" in data) live(data.isLive, false)
      else if (hangUp !== undefined) tell({ isLive: isLive.get() })
    })
    tell({ ask: true })
    // A tab that does not listen itself has missed what was told before.
    const catchUp = async () => {
      const known = await list()
      if (!halt.signal.aborted) for (const query of known.toReversed()) take(query)
    }
    catchUp().catch(() => undefined)
    stopping = () => {
      halt.abort()
      hangUp?.()
      clearTimeout(timer)
      channel.close()
      isLive.set(false)
    }
  }

  const stop = () => {
    stopping?.()
    stopping = undefined
    all = new Map()
    waiting.clear()
    queries.set(all)
  }

  /** Waits for a query's outcome; asks where no news come in. */
  const outcome = (id: string): Promise<Query> =>
    new Promise((resolve) => {
      const known = all.get(id)
      if (known !== undefined && isOver(known)) return resolve(known)
      waiting.set(id, (waiting.get(id) ?? new Set()).add(resolve))
      const ask = () => {
        if (!waiting.has(id)) return
        if (!isLive.get()) void find(id).then(take, () => undefined)
        setTimeout(ask, 1000)
      }
      setTimeout(ask, 500)
    })

  return { queries, isLive, start, stop, take, outcome }
}

export const feed = make()
