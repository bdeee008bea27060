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
  // The first row that is seen, and the height of all. Where a row is scrolled within itself, nothing is drawn.
  const [top, setTop] = useState(0)
  const [height, setHeight] = useState(600)
  useLayoutEffect(() => {
    const element = box.current
    if (element === null) return
    const scrolled = () => setTop(Math.floor(element.scrollTop / rowHeight))
    const observer = new ResizeObserver(() => setHeight(element.clientHeight))
    observer.observe(element)
    element.addEventListener("scroll", scrolled, { passive: true })
    scrolled()
    return () => {
      observer.disconnect()
      element.removeEventListener("scroll", scrolled)
    }
  }, [])
  const first = Math.max(0, top - beyond)
  const last = Math.min(items.length, top + 1 + Math.ceil(height / rowHeight) + beyond)
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
