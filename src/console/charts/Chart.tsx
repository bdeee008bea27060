/**
 * Lines over the last minutes, drawn by uPlot.
 */
import { useEffect, useRef } from "preact/hooks"
import uPlot from "uplot"
import "uplot/dist/uPlot.min.css"
import { useStore } from "../app/store.ts"
import { theme } from "../app/theme.ts"
import { language } from "../text/text.ts"

export interface ChartProps {
  readonly title: string
  readonly names: ReadonlyArray<string>
  /** Moments in seconds, then a list of values for each name. */
  readonly data: ReadonlyArray<ReadonlyArray<number | null>>
}

/** Seconds that are shown. */
const shown = 120

const colours = ["--accent", "--info", "--warn", "--danger", "--ok"]

/** A colour as the canvas takes it: it knows no variables. */
const colourOf = (element: Element, name: string): string => {
  const probe = document.createElement("i")
  probe.style.color = `var(${name})`
  element.append(probe)
  const { color } = getComputedStyle(probe)
  probe.remove()
  return color
}

export const Chart = ({ data, names, title }: ChartProps) => {
  const host = useRef<HTMLDivElement>(null)
  const chart = useRef<uPlot>(undefined)
  const shades = useStore(theme)
  const locale = useStore(language)
  const key = names.join()

  useEffect(() => {
    const element = host.current
    if (element === null) return
    const muted = colourOf(element, "--muted")
    const grid = { stroke: colourOf(element, "--line"), width: 1 }
    const clock = new Intl.DateTimeFormat(locale, { timeStyle: "medium" })
    const axis = { stroke: muted, grid, ticks: grid, font: "11px sans-serif" }
    const made = new uPlot(
      {
        width: element.clientWidth,
        height: 170,
        cursor: { y: false },
        legend: { live: false },
        scales: {
          x: { range: (_, __, max) => [max - shown, max] },
          y: { range: (_, __, max) => [0, Math.max(4, max * 1.1)] }
        },
        axes: [
          {
            ...axis,
            values: (_, ticks) => ticks.map((tick) => clock.format(tick * 1000)),
            space: 90,
            incrs: [1, 2, 5, 10, 15, 30, 60, 120, 300, 600]
          },
          { ...axis, size: 40, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000] }
        ],
        series: [
          {},
          ...names.map((label, index) => ({
            label,
            stroke: colourOf(element, colours[index % colours.length] ?? "--accent"),
            width: 2,
            points: { show: (_chart: uPlot, _series: number, from: number, to: number) => to - from < 3, size: 6 }
          }))
        ]
      },
      data as uPlot.AlignedData,
      element
    )
    chart.current = made
    const observer = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: 170 }))
    observer.observe(element)
    return () => {
      observer.disconnect()
      made.destroy()
    }
  }, [key, shades, locale])
  useEffect(() => chart.current?.setData(data as uPlot.AlignedData), [data])

  const last = names.map((name, index) => `${name} ${data[index + 1]?.at(-1) ?? 0}`).join(", ")
  return (
    <figure class="panel pad chart">
      <figcaption>{title}</figcaption>
      <div ref={host} role="img" aria-label={`${title}: ${last}`} />
    </figure>
  )
}
