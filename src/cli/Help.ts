/**
 * How help and mistakes of the command line are said.
 *
 * Lines are broken at words within the width of the terminal. Help goes to standard output. What is wrong with a command goes to
 * standard error with the way to its help, and nothing to standard output, which may be another program's input.
 */
import * as Console from "effect/Console"
import * as CliConfig from "effect/cli/CliConfig"
import * as CliOutput from "effect/cli/CliOutput"
import * as GlobalFlag from "effect/cli/GlobalFlag"
import type { FlagDoc } from "effect/cli/HelpDoc"
import * as TerminalCapabilities from "effect/cli/TerminalCapabilities"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Output from "./Output.ts"

/** Breaks a line at words; what follows begins where the text of the line does, after what it explains. */
const wrapped = (line: string, width: number): string => {
  if (CliOutput.displayWidth(line) <= width) return line
  const lead = /^ *(?:\S.*? {2,}(?=\S))?/.exec(line)?.[0] ?? ""
  const space = " ".repeat(Math.min(CliOutput.displayWidth(lead), Math.floor(width / 2)))
  const lines: Array<string> = []
  let text = lead
  let isEmpty = true
  for (const word of line.slice(lead.length).split(" ")) {
    if (!isEmpty && CliOutput.displayWidth(text) + 1 + CliOutput.displayWidth(word) > width) {
      lines.push(text)
      text = space
      isEmpty = true
    }
    text += isEmpty ? word : ` ${word}`
    isEmpty = false
  }
  return [...lines, text].join("\n")
}

/** All values in the place of a name make the column too wide; the description has them. */
const named = (flag: FlagDoc): FlagDoc => (flag.type.includes("|") ? { ...flag, type: "name" } : flag)

const formatter = (colors: boolean): CliOutput.Formatter => {
  const usual = CliOutput.defaultFormatter({ colors, globalFlags: "summary" })
  const width = Output.widthOf(process.stdout)
  return {
    ...usual,
    formatHelpDoc: (doc) =>
      usual
        .formatHelpDoc({ ...doc, globalFlags: doc.globalFlags?.map(named) ?? [] })
        .split("\n")
        // A heading begins its line, and has an empty one before it.
        .flatMap((line, at, all) => (at > 0 && /^[^ ]/.test(line) && all[at - 1] !== "" ? ["", line] : [line]))
        .map((line) => wrapped(line, width))
        .join("\n")
  }
}

/** `HOLDFAST_LOG_LEVEL` says what the service logs. */
const builtIns = GlobalFlag.BuiltIns.filter((flag) => flag !== GlobalFlag.LogLevel)

export const layer: Layer.Layer<never> = Layer.unwrap(
  Effect.map(TerminalCapabilities.TerminalCapabilities, ({ canColor }) => {
    const format = formatter(canColor)
    return Layer.mergeAll(
      CliConfig.layer({ builtIns }),
      CliOutput.layer(format),
      CliOutput.layerPresenter({
        present: (event) =>
          event._tag === "InvalidInvocation"
            ? Console.error(
                `${format.formatErrors(event.errors).trimStart()}\n\nSee ${["holdfast", ...event.commandPath.slice(1), "--help"].join(" ")}`
              )
            : CliOutput.defaultPresenter.present(event)
      })
    )
  })
)
