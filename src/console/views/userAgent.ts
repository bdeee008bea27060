/**
 * What a client said that it is, in words. Only shown, never believed.
 */
const browsers: ReadonlyArray<readonly [RegExp, string]> = [
  [/Edg(?:e|A|iOS)?\//, "Edge"],
  [/OPR\/|Opera/, "Opera"],
  [/Firefox\/|FxiOS\//, "Firefox"],
  [/HeadlessChrome\//, "Chrome (headless)"],
  [/Chrome\/|CriOS\//, "Chrome"],
  [/Safari\//, "Safari"],
  [/^curl\//, "curl"],
  [/^node|undici/i, "Node.js"]
]
const systems: ReadonlyArray<readonly [RegExp, string]> = [
  [/iPhone/, "iPhone"],
  [/iPad/, "iPad"],
  [/Android/, "Android"],
  [/Windows/, "Windows"],
  [/Mac OS X/, "macOS"],
  [/CrOS/, "ChromeOS"],
  [/Linux/, "Linux"]
]

const first = (all: ReadonlyArray<readonly [RegExp, string]>, text: string) =>
  all.find(([pattern]) => pattern.test(text))?.[1]

/** Such as `Firefox, Windows`; the beginning of what it said where that is nothing known. */
export const nameOf = (userAgent: string | null): string | undefined => {
  if (userAgent === null || userAgent === "") return undefined
  const known = [first(browsers, userAgent), first(systems, userAgent)].filter((name) => name !== undefined)
  return known.length > 0 ? known.join(", ") : userAgent.slice(0, 60)
}
