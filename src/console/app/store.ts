/**
 * A value that components follow.
 *
 * It lives as long as somebody has it; a component stops following when it is gone.
 */
import { useLayoutEffect, useState } from "preact/hooks"

/** Something that can be read, and says when it has changed. */
export interface Readable<A> {
  readonly get: () => A
  readonly subscribe: (listener: () => void) => () => void
}

/** A value that can be set. */
export interface Store<A> extends Readable<A> {
  readonly set: (value: A) => void
}

/** Makes a value; setting what it is already tells nobody. */
export const make = <A>(initial: A): Store<A> => {
  let value = initial
  const listeners = new Set<() => void>()
  return {
    get: () => value,
    set: (next) => {
      if (Object.is(next, value)) return
      value = next
      for (const listener of Array.from(listeners)) listener()
    },
    subscribe: (listener) => {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    }
  }
}

const read = (key: string): string | null => {
  try {
    return localStorage.getItem(key)
  } catch {
    return null
  }
}

/** As {@link make}, for a text that a reload finds again. A browser that keeps nothing is no error. */
export const kept = <A extends string>(name: string, initial: A, isRight: (text: string) => text is A): Store<A> => {
  const key = `holdfast ${name}`
  const found = read(key)
  const store = make<A>(found !== null && isRight(found) ? found : initial)
  store.subscribe(() => {
    try {
      localStorage.setItem(key, store.get())
    } catch {
      // It is lost with the page, and that is all.
    }
  })
  return store
}

/** Any text is right. */
export const anyText = (_text: string): _text is string => true

/** The value now; the component is drawn again when it changes. */
export const useStore = <A>(store: Readable<A>): A => {
  const [, draw] = useState(0)
  useLayoutEffect(() => {
    const seen = store.get()
    const stop = store.subscribe(() => draw((count) => count + 1))
    // It may have changed between drawing and following.
    if (!Object.is(seen, store.get())) draw((count) => count + 1)
    return stop
  }, [store])
  return store.get()
}
