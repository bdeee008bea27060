import { describe, expect, it } from "@effect/vitest"
import { publicModules } from "../support/publicModules.ts"

describe("what is public", () => {
  it("is what publicModules.txt says; a change on purpose is written there by `npx vitest run test/house -u`", async () => {
    const text = publicModules().map(({ names, specifier }) =>
      [specifier, ...names.map(({ kinds, name }) => `  ${name}: ${kinds.join(", ")}`), ""].join("\n")
    )
    await expect(text.join("\n")).toMatchFileSnapshot("publicModules.txt")
  })
})
