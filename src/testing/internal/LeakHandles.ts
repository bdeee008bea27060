/**
 * What keeps a process from ending: timers, sockets, servers, child processes, watchers; and listeners on the process.
 *
 * Node tells of each when it is made (`node:async_hooks`), for as long as somebody watches; whether it keeps the process from ending, it is
 * asked itself.
 */
import { createHook } from "node:async_hooks"
import * as LeakPlaces from "./LeakPlaces.ts"

/** What there is of one kind, in words. */
const kinds: Readonly<Record<string, string>> = {
  Timeout: "timer",
  TCPWRAP: "socket",
  TCPSERVERWRAP: "server that listens",
  PIPEWRAP: "pipe",
  PIPESERVERWRAP: "server that listens on a path",
  UDPWRAP: "UDP socket",
  PROCESSWRAP: "child process",
  FSEVENTWRAP: "watcher of files",
  STATWATCHER: "watcher of a file",
  WORKER: "worker thread",
  SIGNALWRAP: "handler of a signal"
}

interface Handle {
  readonly order: number
  readonly type: string
  readonly resource: WeakRef<object>
  readonly place: LeakPlaces.Place
  readonly during: string | undefined
}

interface Listener {
  readonly order: number
  readonly event: string | symbol
  readonly listener: (...args: Array<unknown>) => void
  readonly place: LeakPlaces.Place
  readonly during: string | undefined
}

const handles = new Map<number, Handle>()
const listeners = new Set<Listener>()
let order = 0
let watchers = 0

/** Places that are not settled. Most handles are gone before it is their turn. */
const fresh = new Set<LeakPlaces.Place>()
/** In milliseconds. */
const settling = 100
let settler: NodeJS.Timeout | undefined

/** Timers that are over, and what is collected, need not be remembered. */
const settle = () => {
  for (const [id, { place, resource }] of handles) {
    const it = resource.deref()
    if (it !== undefined && Reflect.get(it, "_destroyed") !== true) continue
    handles.delete(id)
    fresh.delete(place)
  }
  for (const place of fresh) place.settle()
  fresh.clear()
}

const here = () => {
  const place = LeakPlaces.here()
  fresh.add(place)
  return place
}
let during: (() => string | undefined) | undefined

/** Promises are no handles. Node 24 is told, and spares them; an older Node asks about each. */
const options = { trackPromises: false }

const hook = createHook({
  ...options,
  init: (id, type, _, resource) => {
    if (kinds[type] === undefined) return
    handles.set(id, { order: order++, type, resource: new WeakRef(resource), place: here(), during: during?.() })
  }
})

/** Listeners that were there before anybody watched. A test may take one away for a while. */
const older = new Set<unknown>()

const onListener = (event: string | symbol, listener: (...args: Array<unknown>) => void) => {
  // What Node listens to for itself stays, such as that of `node:cluster`.
  if (event === "internalMessage" || older.has(listener)) return
  listeners.add({ order: order++, event, listener, place: here(), during: during?.() })
}

/** Begins to watch; the test of the moment is asked for. The answer ends it. */
export const watch = (testOfTheMoment?: () => string | undefined): (() => void) => {
  if (testOfTheMoment !== undefined) during = testOfTheMoment
  if (watchers++ === 0) {
    settler = setInterval(settle, settling).unref()
    hook.enable()
    for (const event of process.eventNames()) {
      for (const listener of process.rawListeners(event)) older.add(listener)
    }
    process.on("newListener", onListener)
  }
  let isWatching = true
  return () => {
    if (!isWatching) return
    isWatching = false
    if (testOfTheMoment !== undefined) during = undefined
    if (--watchers > 0) return
    hook.disable()
    clearInterval(settler)
    process.off("newListener", onListener)
    handles.clear()
    listeners.clear()
    older.clear()
    fresh.clear()
  }
}

export const now = (): number => order

const asked = <A>(resource: object, method: string, ...args: ReadonlyArray<unknown>): A | undefined => {
  const found: unknown = Reflect.get(resource, method)
  return typeof found === "function" ? Reflect.apply(found, resource, args) : undefined
}

interface Address {
  address?: string
  port?: number
}

/** Where a socket or a server is. */
const addresses = (resource: object) => {
  const [own, peer]: [Address, Address] = [{}, {}]
  try {
    asked(resource, "getsockname", own)
    asked(resource, "getpeername", peer)
  } catch {
    // A handle that is closing has none.
  }
  return { own, peer }
}

const wordsOf = (type: string, resource: object): string => {
  const kind = kinds[type] ?? type
  if (type === "Timeout") {
    const every: unknown = Reflect.get(resource, "_repeat")
    const after: unknown = Reflect.get(resource, "_idleTimeout")
    return typeof every === "number"
      ? `${kind} that repeats every ${Math.round(every)} ms`
      : `${kind} of ${Math.round(Number(after))} ms`
  }
  const { own, peer } = addresses(resource)
  if (peer.port !== undefined) return `${kind} to ${peer.address}:${peer.port}`
  if (own.port !== undefined) return `${kind}: ${own.address}:${own.port}`
  const pid: unknown = Reflect.get(resource, "pid")
  return typeof pid === "number" ? `${kind} ${pid}` : kind
}

/** The standard streams are opened when somebody first writes to them, and stay. */
const isStandard = (resource: object): boolean => {
  const fd: unknown = Reflect.get(resource, "fd")
  return typeof fd === "number" && fd >= 0 && fd <= 2
}

/** Something that is still there. */
export interface Left {
  readonly what: string
  readonly place: LeakPlaces.Place
  readonly during: string | undefined
}

/** What was made between two moments, keeps the process from ending, and is not the test runner's. */
export const between = (from: number, to: number): ReadonlyArray<Left> => {
  const left: Array<Left> = []
  for (const { during, order, place, resource, type } of handles.values()) {
    const it = resource.deref()
    if (order < from || order >= to || it === undefined || place.isRunners()) continue
    if (asked<boolean>(it, "hasRef") !== true || isStandard(it)) continue
    left.push({ what: wordsOf(type, it), place, during })
  }
  for (const { during, event, listener, order, place } of listeners) {
    if (order < from || order >= to || place.isRunners()) continue
    const isOlder = (it: Listener) => it.order < from && it.event === event && it.listener === listener
    if (Array.from(listeners).some(isOlder)) continue
    if (!process.rawListeners(event).some((it) => it === listener || Reflect.get(it, "listener") === listener)) continue
    left.push({ what: `listener for ${String(event)} on the process`, place, during })
  }
  return left
}

/** Where the socket on a port of this machine was opened. */
export const socketOn = (port: number): Left | undefined => {
  for (const { during, place, resource, type } of handles.values()) {
    const it = resource.deref()
    if (type !== "TCPWRAP" || it === undefined || addresses(it).own.port !== port) continue
    return { what: "socket", place, during }
  }
  return undefined
}
