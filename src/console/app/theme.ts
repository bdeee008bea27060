/**
 * Light, dark, or as the system has it.
 */
import * as Store from "./store.ts"

export const themes = ["system", "light", "dark"] as const
export type Theme = (typeof themes)[number]

const isTheme = (text: string): text is Theme => themes.some((theme) => theme === text)

export const theme = Store.kept<Theme>("theme", "system", isTheme)

const apply = (): void => {
  const chosen = theme.get()
  if (chosen === "system") delete document.documentElement.dataset["theme"]
  else document.documentElement.dataset["theme"] = chosen
}
theme.subscribe(apply)
apply()
