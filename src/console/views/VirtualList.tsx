/**
 * Rows of one height, of which only those that are seen are drawn.
 */
import type { ComponentChildren } from "preact"
import { useLayoutEffect, useRef, useState } from "preact/hooks"

import { px } from "../app/px.ts"

export interface VirtualListProps<A> {
  readonly items: ReadonlyArray<A>
  readonly rowHeight: number
  readonly className: string
  readonly keyOf: (item: A) => string
  readonly draw: (item: A) => ComponentChildren
}

const beyond = 5

export const VirtualList = <A,>({ className, draw, items, keyOf, rowHeight }: VirtualListProps<A>) => {
  const box = useRef<HTMLDivElement>(null)
  const [seen, setSeen] = useState({ top: 0, height: 600 })
  useLayoutEffect(() => {
    const element = box.current
    if (element === null) return
    const measure = () => setSeen({ top: element.scrollTop, height: element.clientHeight })
    const observer = new ResizeObserver(measure)
    observer.observe(element)
    element.addEventListener("scroll", measure, { passive: true })
    measure()
    return () => {
      observer.disconnect()
      element.removeEventListener("scroll", measure)
    }
  }, [])
  const first = Math.max(0, Math.floor(seen.top / rowHeight) - beyond)
  const last = Math.min(items.length, Math.ceil((seen.top + seen.height) / rowHeight) + beyond)
  return (
    <div class="scroll" ref={box} role="rowgroup" tabIndex={0}>
      <div role="presentation" style={{ position: "relative", height: px(items.length * rowHeight) }}>
        {items.slice(first, last).map((item, index) => (
          <div
            key={keyOf(item)}
            role="row"
            aria-rowindex={first + index + 2}
            class={className}
            style={{
              position: "absolute",
              insetInline: "0",
              height: px(rowHeight),
              transform: `translateY(${(first + index) * rowHeight}px)`
            }}
          >
            {draw(item)}
          </div>
        ))}
      </div>
    </div>
  )
}
