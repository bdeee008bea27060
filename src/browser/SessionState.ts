/**
 * The session of a browser app, in step with the server: who is logged in, until when, and why no longer.
 *
 * It lives from {@link make} until `close`. All tabs of an app agree within a moment: one of them, whichever has the lock, keeps
 * the one connection to `GET /session/events` and tells the others; when it goes, another one takes over.
 *
 * **When to use**
 *
 * In any page of an app with Holdfast's sessions. It needs no package and no build: a browser that knows EventSource,
 * BroadcastChannel and Web Locks. `subscribe` and `snapshot` are what React's `useSyncExternalStore`, Svelte's stores and Vue's
 * `shallowRef` take; `SessionAtom` makes an atom of Effect of it.
 *
 * **Details**
 *
 * | what happened                                    | `snapshot()`                                                     |
 * | ------------------------------------------------ | ---------------------------------------------------------------- |
 * | not asked yet                                    | `unknown`                                                        |
 * | nobody is logged in                              | `anonymous`                                                      |
 * | a logout in this browser, whichever tab          | `anonymous`, `ended: "logout"`                                   |
 * | ended on another device, by an operator, to make room | `anonymous`, `ended: "SessionRevoked"`                      |
 * | idle for too long, or at its absolute end        | `anonymous`, `ended: "SessionExpired"`                           |
 * | no network                                       | as before, `trouble: "offline"`                                  |
 * | the service or its store does not answer         | as before, `trouble: "unavailable"`: nobody was logged out       |
 *
 * Only a 401 logs anybody out. Everything else is tried again: after a quarter of a second, then half as often each time, up to
 * every 5 seconds; at once when the network is back.
 *
 * **Gotchas**
 *
 * Listening is no activity, asking is. While the session is well and only the stream breaks, as behind a proxy that allows none,
 * it is asked for ever more rarely, every 5 minutes in the end, so that an abandoned tab does not keep its session for long.
 */

/** A session as `GET /session` tells it. Times are RFC 3339. */
export interface Session {
  readonly id: string
  readonly principal: string
  readonly createdAt: string
  /** It is over at this moment unless there is a request before. */
  readonly idleExpiresAt: string
  /** It is over at this moment whatever happens. */
  readonly expiresAt: string
}

/** Why a session is over. */
export type Ended = "logout" | "SessionExpired" | "SessionRevoked"

/** Why what is known may be old: there is no network, or the service or its store does not answer. */
export type Trouble = "offline" | "unavailable"

/** The session's data, and its version for `put`. */
export interface Data {
  readonly value: Readonly<Record<string, unknown>>
  readonly version: string
}

/** What is known. The same object until something changes. */
export type Snapshot =
  | { readonly status: "unknown"; readonly trouble: Trouble | null }
  | { readonly status: "anonymous"; readonly ended: Ended | null; readonly trouble: Trouble | null }
  | {
      readonly status: "active"
      readonly session: Session
      /** Null until it was read. */
      readonly data: Data | null
      readonly trouble: Trouble | null
    }

/** The service refused a call, or did not answer. */
export class SessionRefused extends Error {
  /** The HTTP status; 0 where there was no answer. */
  readonly status: number
  /** The `code` of the problem, such as `InvalidCredentials` or `SessionConflict`; `Unreachable` where there was no answer. */
  readonly code: string
  /** Seconds after which to try again; undefined where nothing is said of it. */
  readonly retryAfter: number | undefined
  constructor(status: number, code: string, message: string, retryAfter?: number) {
    super(message)
    this.name = "SessionRefused"
    this.status = status
    this.code = code
    this.retryAfter = retryAfter
  }
}

/** Where the app has its calls. */
export interface Options {
  /** In front of every path, without a slash at the end. Default: none, the page's own origin. */
  readonly base?: string | undefined
  /** Default: `/login`. */
  readonly login?: string | undefined
  /** Default: `/logout`. */
  readonly logout?: string | undefined
  /** Default: `/session`. */
  readonly session?: string | undefined
  /** Default: `/session/data`. */
  readonly data?: string | undefined
  /** Default: `/session/events`. */
  readonly events?: string | undefined
}

/** A session in step with the server. */
export interface SessionState {
  readonly snapshot: () => Snapshot
  /** Calls when the snapshot has changed. Answers with what stops it. */
  readonly subscribe: (listener: () => void) => () => void
  /** Milliseconds until the session ends unless there is a request before, by the server's clock; 0 where there is none. */
  readonly remaining: () => number
  /** Asks again. This is activity. */
  readonly refresh: () => Promise<void>
  /**
   * Tells that another call of the app was answered 401, with the `code` of the problem, and asks whether the session is over: that
   * call may have been sent with the session before. The answer that says why also removes the cookie, so the question itself
   * only learns that there is no session.
   */
  readonly unauthorized: (code: string) => void
  /** Logs in with what the app's login takes. Fails with {@link SessionRefused}. */
  readonly login: (credentials: unknown) => Promise<Session>
  /** Logs out, in all tabs. Answers when the server has released what the session held. Fails with {@link SessionRefused}. */
  readonly logout: () => Promise<void>
  /** Reads the data. Fails with {@link SessionRefused}, as do the next two. */
  readonly get: () => Promise<Data>
  /** Changes the data by a JSON merge patch (RFC 7396): what is sent changes, null removes. */
  readonly patch: (change: Readonly<Record<string, unknown>>) => Promise<Data>
  /** Puts other data in the place of the version that was read last; `SessionConflict` where somebody was faster. */
  readonly put: (value: Readonly<Record<string, unknown>>) => Promise<Data>
  readonly close: () => void
}

/** What tabs tell each other: what is known, and which session was the last to end. */
type Message = { readonly snapshot: Snapshot; readonly past: string | undefined } | { readonly leaving: boolean }

/** What of a browser is used and Node does not describe. */
interface Page extends EventTarget {
  readonly document: EventTarget & { readonly visibilityState: string }
  readonly navigator: {
    readonly onLine: boolean
    readonly locks: {
      request(name: string, options: { readonly signal: AbortSignal }, held: () => Promise<void>): Promise<void>
    }
  }
  readonly EventSource: new (
    url: string,
    options: { readonly withCredentials: boolean }
  ) => EventTarget & {
    readonly close: () => void
  }
  readonly BroadcastChannel: new (name: string) => EventTarget & {
    readonly postMessage: (message: Message) => void
    readonly close: () => void
  }
}

const json = "application/json"

/** Begins to keep step. */
export const make = (options: Options = {}): SessionState => {
  const page = globalThis as unknown as Page
  const { base = "", login = "/login", logout = "/logout", session = "/session" } = options
  const { data = `${session}/data`, events = `${session}/events` } = options
  const name = `holdfast ${base}${session}`
  const stop = new AbortController()
  const channel = new page.BroadcastChannel(name)
  const listeners = new Set<() => void>()
  let now: Snapshot = { status: "unknown", trouble: null }
  /** The last session that ended. */
  let past: string | undefined
  /** What to say where a refusal does not say why: the answer that did has removed the cookie. */
  let why: Ended | null = null
  /** What the server's clock is ahead of this one, in milliseconds. */
  let ahead = 0
  let failures = 0
  let timer: ReturnType<typeof setTimeout> | undefined
  let hiddenAt = 0
  /** A logout of this browser is under way: its news are no surprise. */
  let leaving = false
  let turn: AbortController | undefined
  let hangUp: (() => void) | undefined

  const idOf = (snapshot: Snapshot) => (snapshot.status === "active" ? snapshot.session.id : undefined)
  const set = (next: Snapshot, tell = true) => {
    if (stop.signal.aborted) return
    if (idOf(now) !== idOf(next)) {
      past = idOf(now) ?? past
      why = "ended" in next ? next.ended : "SessionRevoked"
      // The stream is that of the session before.
      unlisten()
    }
    now = next
    if (tell) channel.postMessage({ snapshot: next, past })
    if (next.status === "active") listen()
    for (const listener of listeners) listener()
  }
  const active = (found: Session) => {
    clearTimeout(timer)
    leaving = false
    // What was on its way when the network went is no sign of a network.
    const trouble = now.trouble === "offline" && !page.navigator.onLine ? now.trouble : null
    const data = now.status === "active" && idOf(now) === found.id ? now.data : null
    set({ status: "active", session: found, data, trouble })
  }
  const over = (ended: Ended | null) => {
    clearTimeout(timer)
    set({ status: "anonymous", ended: leaving && ended !== null ? "logout" : ended, trouble: null })
  }
  const trouble = (kind: Trouble) => {
    if (now.trouble !== kind) set({ ...now, trouble: kind })
  }
  const endedBy = (code: string) => (code === "SessionExpired" || code === "SessionRevoked" ? code : why)

  const call = async (path: string, method = "GET", body?: unknown, headers: Record<string, string> = {}) => {
    const sent = Date.now()
    const response = await fetch(base + path, {
      method,
      credentials: base === "" ? "same-origin" : "include",
      headers: { accept: json, ...(body !== undefined && { "content-type": json }), ...headers },
      ...(body !== undefined && { body: JSON.stringify(body) }),
      signal: stop.signal
    }).catch(() => {
      throw new SessionRefused(0, "Unreachable", "The service does not answer. Check the network, then try again.")
    })
    const date = Date.parse(response.headers.get("date") ?? "")
    // The header has whole seconds: in the middle of one it is right on average.
    if (date > 0) ahead = date + 500 - (sent + Date.now()) / 2
    if (response.ok) return response
    const problem = await response.json().catch(() => ({}))
    const { code = String(response.status), detail, title } = problem as Readonly<Record<string, string | undefined>>
    const after = Number(response.headers.get("retry-after") ?? Number.NaN)
    throw new SessionRefused(
      response.status,
      code,
      detail ?? title ?? `The service answered with ${response.status}.`,
      after >= 0 ? after : undefined
    )
  }
  /** Takes what a call failed with for what it says of the session that it was `asked` with. True if that was an answer. */
  const judge = (error: unknown, asked: string | undefined): boolean => {
    if (stop.signal.aborted || !(error instanceof SessionRefused)) return true
    if (error.status === 401 && idOf(now) !== asked) void refresh()
    else if (error.status === 401) over(endedBy(error.code))
    else if (error.status === 0 || error.status >= 500) {
      trouble(page.navigator.onLine ? "unavailable" : "offline")
      return false
    }
    return true
  }

  const later = (longest: number) => {
    clearTimeout(timer)
    timer = setTimeout(refresh, Math.min(longest, 250 * 2 ** failures++) * (0.5 + Math.random() / 2))
  }
  const refresh = async (): Promise<void> => {
    clearTimeout(timer)
    const asked = idOf(now)
    try {
      const found = (await (await call(session)).json()) as Session
      if (idOf(now) !== asked || found.id === past) return refresh()
      if (now.status !== "active") failures = 0
      active(found)
    } catch (error) {
      if (!judge(error, asked)) later(5000)
    }
  }

  /** Waits for the turn of this tab, then listens for all. */
  const listen = () => {
    if (turn !== undefined) return
    const { signal } = (turn = new AbortController())
    page.navigator.locks
      .request(
        name,
        { signal },
        () =>
          new Promise((done) => {
            const source = new page.EventSource(base + events, { withCredentials: base !== "" })
            hangUp = () => {
              source.close()
              done()
            }
            if (signal.aborted) return hangUp()
            const dataOf = (event: Event) => JSON.parse((event as unknown as { readonly data: string }).data)
            source.addEventListener("session", (event) => {
              failures = 0
              active(dataOf(event))
            })
            source.addEventListener("ended", (event) => over(endedBy(dataOf(event).reason)))
            source.addEventListener("error", () => {
              unlisten()
              // Whether it is the stream or the service that is broken.
              if (failures === 0) {
                failures++
                void refresh()
              } else later(now.trouble === null ? 300_000 : 5000)
            })
          })
      )
      .catch(() => undefined)
  }
  const unlisten = () => {
    turn?.abort()
    hangUp?.()
    turn = hangUp = undefined
  }

  const kept = async (path: string, method?: string, body?: unknown, headers?: Record<string, string>) => {
    const asked = idOf(now)
    try {
      const response = await call(path, method, body, headers)
      const read: Data = {
        value: (await response.json()) as Data["value"],
        version: response.headers.get("etag") ?? ""
      }
      if (now.status === "active" && idOf(now) === asked) set({ ...now, data: read })
      return read
    } catch (error) {
      judge(error, asked)
      throw error
    }
  }

  const on = (target: EventTarget, event: string, listener: (event: Event) => void) =>
    target.addEventListener(event, listener, { signal: stop.signal })
  on(page, "online", () => void refresh())
  on(page, "offline", () => trouble("offline"))
  on(page, "pageshow", () => {
    if (now.status !== "unknown") void refresh()
  })
  on(page.document, "visibilitychange", () => {
    const isHidden = page.document.visibilityState === "hidden"
    // A connection that slept with the machine says nothing.
    if (!isHidden && Date.now() - hiddenAt > 60_000) {
      unlisten()
      void refresh()
    }
    hiddenAt = isHidden ? Date.now() : Number.POSITIVE_INFINITY
  })
  on(channel, "message", (event) => {
    const { data: message } = event as unknown as { readonly data: Message }
    if ("leaving" in message) return void (leaving = message.leaving)
    const { past: over, snapshot } = message
    // Of two tabs that know of different sessions, the server says which is right.
    const isOdd = snapshot.status === "active" ? idOf(snapshot) === past : now.status === "active" && idOf(now) !== over
    if (isOdd) void refresh()
    else if (snapshot.status === "active" || now.status !== "unknown") set(snapshot, false)
  })
  void refresh()

  return {
    snapshot: () => now,
    subscribe: (listener) => {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
    remaining: () =>
      now.status === "active"
        ? Math.max(
            0,
            Math.min(Date.parse(now.session.idleExpiresAt), Date.parse(now.session.expiresAt)) - Date.now() - ahead
          )
        : 0,
    refresh,
    unauthorized: (code) => {
      // A call that was under way when the session ended tells nothing new.
      if (now.status === "anonymous") return
      why = endedBy(code)
      void refresh()
    },
    login: async (credentials) => {
      const found = (await (await call(login, "POST", credentials)).json()) as Session
      active(found)
      return found
    },
    logout: async () => {
      leaving = true
      channel.postMessage({ leaving })
      try {
        await call(logout, "POST")
      } catch (error) {
        leaving = false
        channel.postMessage({ leaving })
        if (!(error instanceof SessionRefused && error.status === 401)) throw error
      }
      leaving = false
      set({ status: "anonymous", ended: "logout", trouble: null })
    },
    get: () => kept(data),
    patch: (change) => kept(data, "PATCH", change),
    put: (value) => kept(data, "PUT", value, { "if-match": (now.status === "active" && now.data?.version) || "*" }),
    close: () => {
      unlisten()
      clearTimeout(timer)
      stop.abort()
      channel.close()
      listeners.clear()
    }
  }
}
