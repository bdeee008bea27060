/**
 * Rows in a grid of which only what is seen is drawn, however many there are.
 *
 * **Details**
 *
 * Arrows, Home, End, Page up and down move the active cell, with Shift they select, Ctrl+C copies what is selected as text with tabs
 * (WAI-ARIA Authoring Practices, "Grid"). A browser draws nothing that is higher than some millions of pixels: beyond that the
 * bar of the grid moves several rows for one pixel.
 */
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks"
import { px } from "../app/px.ts"
import { say } from "../app/status.ts"
import { useWords } from "../text/text.ts"
import type { RowSource } from "./rows.ts"
import { textOf, type Value } from "./values.ts"

const rowHeight = 28
const headHeight = 44
const numberWidth = 64
const tallest = 8_000_000
const drawnBeyond = 6

const isNumeric = (type: string): boolean =>
  /^(?:int|float|numeric|decimal|double|real|bigint|smallint|tinyint|money|oid)/i.test(type)

/** Widths by what is in the first rows, in pixels. */
const widthsOf = (source: RowSource): ReadonlyArray<number> =>
  source.columns.map(({ name, type }, column) => {
    let longest = Math.max(name.length, type.length)
    for (let row = 0; row < Math.min(60, source.total); row++) {
      longest = Math.max(longest, textOf(source.row(row)?.[column]).length)
    }
    return Math.min(380, Math.max(72, Math.ceil(longest * 7.9) + 26))
  })

const Cell = ({ value }: { readonly value: Value }) =>
  value === null ? <span class="null">NULL</span> : <>{textOf(value).slice(0, 400)}</>

interface Place {
  readonly row: number
  readonly column: number
}

export const Grid = ({ label, source }: { readonly source: RowSource; readonly label: string }) => {
  const words = useWords()
  const box = useRef<HTMLDivElement>(null)
  const [scroll, setScroll] = useState({ top: 0, left: 0, height: 400, width: 800 })
  const [active, setActive] = useState<Place>({ row: 0, column: 0 })
  const [anchor, setAnchor] = useState<Place>({ row: 0, column: 0 })
  const [, draw] = useState(0)
  const widths = useMemo(() => widthsOf(source), [source])
  const lefts = useMemo(() => {
    let left = numberWidth
    return widths.map((width) => (left += width) - width)
  }, [widths])
  const total = source.total
  const full = total * rowHeight
  const height = Math.min(full, tallest)
  // Rows that one pixel of the bar stands for, in pixels.
  const room = Math.max(1, height - (scroll.height - headHeight))
  const ratio = full > tallest ? (full - (scroll.height - headHeight)) / room : 1
  const top = scroll.top * ratio
  const first = Math.max(0, Math.floor(top / rowHeight) - drawnBeyond)
  const last = Math.min(total, Math.ceil((top + scroll.height) / rowHeight) + drawnBeyond)
  const firstColumn = Math.max(
    0,
    lefts.findLastIndex((left) => left <= scroll.left + numberWidth)
  )
  const columns = source.columns
    .map((column, index) => ({ ...column, index }))
    .filter(({ index }) => index >= firstColumn && (lefts[index] ?? 0) < scroll.left + scroll.width)

  useEffect(() => source.subscribe(() => draw((count) => count + 1)), [source])
  useEffect(() => source.want(first, last), [source, first, last])
  useLayoutEffect(() => {
    const element = box.current
    if (element === null) return
    const measure = () =>
      setScroll({
        top: element.scrollTop,
        left: element.scrollLeft,
        height: element.clientHeight,
        width: element.clientWidth
      })
    const observer = new ResizeObserver(measure)
    observer.observe(element)
    element.addEventListener("scroll", measure, { passive: true })
    measure()
    return () => {
      observer.disconnect()
      element.removeEventListener("scroll", measure)
    }
  }, [])

  const isSelected = (row: number, column: number): boolean =>
    row >= Math.min(active.row, anchor.row) &&
    row <= Math.max(active.row, anchor.row) &&
    column >= Math.min(active.column, anchor.column) &&
    column <= Math.max(active.column, anchor.column)

  const go = (to: Place, extend: boolean) => {
    const next = {
      row: Math.min(total - 1, Math.max(0, to.row)),
      column: Math.min(widths.length - 1, Math.max(0, to.column))
    }
    setActive(next)
    if (!extend) setAnchor(next)
    const element = box.current
    if (element === null) return
    const y = next.row * rowHeight
    const visible = element.clientHeight - headHeight - rowHeight
    if (y < top) element.scrollTop = y / ratio
    else if (y > top + visible) element.scrollTop = (y - visible) / ratio
    const left = lefts[next.column] ?? 0
    const right = left + (widths[next.column] ?? 0)
    if (left - numberWidth < element.scrollLeft) element.scrollLeft = left - numberWidth
    else if (right > element.scrollLeft + element.clientWidth) element.scrollLeft = right - element.clientWidth
  }

  const copy = () => {
    const rows: Array<string> = []
    let cells = 0
    for (let row = Math.min(active.row, anchor.row); row <= Math.max(active.row, anchor.row); row++) {
      const values = source.row(row)
      if (values === undefined) continue
      const picked = values.slice(Math.min(active.column, anchor.column), Math.max(active.column, anchor.column) + 1)
      cells += picked.length
      rows.push(
        picked
          .map((value) => (picked.length === 1 ? textOf(value) : textOf(value).replaceAll(/[\t\n\r]/g, " ")))
          .join("\t")
      )
    }
    void navigator.clipboard.writeText(rows.join("\n")).then(() => say(words.copied(cells)))
  }

  const page = Math.max(1, Math.floor((scroll.height - headHeight) / rowHeight) - 1)
  const moves: Readonly<Record<string, (place: Place, isFar: boolean) => Place>> = {
    ArrowDown: ({ row, column }) => ({ row: row + 1, column }),
    ArrowUp: ({ row, column }) => ({ row: row - 1, column }),
    ArrowRight: ({ row, column }) => ({ row, column: column + 1 }),
    ArrowLeft: ({ row, column }) => ({ row, column: column - 1 }),
    PageDown: ({ row, column }) => ({ row: row + page, column }),
    PageUp: ({ row, column }) => ({ row: row - page, column }),
    Home: ({ row }, isFar) => ({ row: isFar ? 0 : row, column: 0 }),
    End: ({ row }, isFar) => ({ row: isFar ? total - 1 : row, column: widths.length - 1 })
  }
  const onKeyDown = (event: KeyboardEvent) => {
    const isFar = event.ctrlKey || event.metaKey
    if (isFar && event.key.toLowerCase() === "c") {
      event.preventDefault()
      copy()
      return
    }
    const move = moves[event.key]
    if (move === undefined) return
    event.preventDefault()
    go(move(active, isFar), event.shiftKey)
  }

  const width = (lefts.at(-1) ?? numberWidth) + (widths.at(-1) ?? 0)
  return (
    <div
      class="grid"
      ref={box}
      role="grid"
      aria-label={label}
      aria-rowcount={total + 1}
      aria-colcount={widths.length}
      aria-activedescendant={`cell-${active.row}-${active.column}`}
      tabIndex={0}
      onKeyDown={onKeyDown}
    >
      <div class="grid-head" role="row" aria-rowindex={1} style={{ width: px(width), height: px(headHeight) }}>
        <span class="grid-corner" role="presentation" style={{ width: px(numberWidth) }} />
        {columns.map(({ index, name, type }) => (
          <div
            key={index}
            role="columnheader"
            aria-colindex={index + 1}
            class={isNumeric(type) ? "num" : ""}
            style={{ left: px(lefts[index]), width: px(widths[index]) }}
            title={`${name} ${type}`}
          >
            <b>{name}</b>
            <small>{type}</small>
          </div>
        ))}
      </div>
      <div class="grid-body" role="presentation" style={{ width: px(width), height: px(height) }}>
        {Array.from({ length: Math.max(0, last - first) }, (_, n) => first + n).map((row) => {
          const values = source.row(row)
          return (
            <div
              key={row}
              role="row"
              aria-rowindex={row + 2}
              class={values === undefined ? "coming" : ""}
              style={{
                width: px(width),
                height: px(rowHeight),
                transform: `translateY(${row * rowHeight - top + scroll.top}px)`
              }}
            >
              <span class="grid-number" aria-hidden="true" style={{ width: px(numberWidth) }}>
                {row + 1}
              </span>
              {columns.map(({ index, type }) => (
                <div
                  key={index}
                  id={`cell-${row}-${index}`}
                  role="gridcell"
                  aria-colindex={index + 1}
                  aria-selected={isSelected(row, index)}
                  class={`${isNumeric(type) ? "num" : ""} ${active.row === row && active.column === index ? "active" : ""}`}
                  style={{ left: px(lefts[index]), width: px(widths[index]) }}
                  onPointerDown={(event) => {
                    if (event.button === 0 && event.pointerType === "mouse") go({ row, column: index }, event.shiftKey)
                  }}
                  onPointerEnter={(event) => {
                    if (event.buttons === 1 && event.pointerType === "mouse") setActive({ row, column: index })
                  }}
                  onClick={() => box.current?.focus({ preventScroll: true })}
                >
                  {values === undefined ? "…" : <Cell value={values[index] ?? null} />}
                </div>
              ))}
            </div>
          )
        })}
      </div>
      {source.problem() !== "" && (
        <p class="note bad grid-problem" role="alert">
          {source.problem()}
        </p>
      )}
    </div>
  )
}
