/**
 * Parts of the page that are loaded when they are needed first.
 */
import type { ComponentType } from "preact"
import { useEffect, useState } from "preact/hooks"
import { useWords } from "../text/text.ts"

/** A component that is loaded when it is drawn first. One that cannot be loaded says so, and can be asked for again. */
export const lazy = <P extends object>(load: () => Promise<ComponentType<P>>): ComponentType<P> => {
  let loaded: ComponentType<P> | undefined
  return (props: P) => {
    const words = useWords()
    const [state, setState] = useState<"loading" | "there" | "failed">(loaded === undefined ? "loading" : "there")
    useEffect(() => {
      if (state !== "loading") return
      const begin = async () => {
        loaded = await load()
        setState("there")
      }
      begin().catch(() => setState("failed"))
    }, [state])
    if (loaded !== undefined) {
      const Loaded = loaded
      return <Loaded {...props} />
    }
    return state === "failed" ? (
      <div class="empty" role="alert">
        {words.notLoaded}
        <button onClick={() => setState("loading")}>{words.retry}</button>
      </div>
    ) : (
      <p class="empty">{words.loading}</p>
    )
  }
}
