/**
 * Theme and language.
 */
import { type Language, language, languages, useWords } from "../text/text.ts"
import { useStore } from "./store.ts"
import { type Theme, theme, themes } from "./theme.ts"

export const Choices = () => {
  const words = useWords()
  return (
    <>
      <select
        aria-label={words.theme}
        value={useStore(theme)}
        onChange={(event) => theme.set(event.currentTarget.value as Theme)}
      >
        {themes.map((name) => (
          <option key={name} value={name}>
            {words.themes[name]}
          </option>
        ))}
      </select>
      <select
        aria-label={words.languageLabel}
        value={useStore(language)}
        onChange={(event) => language.set(event.currentTarget.value as Language)}
      >
        {Object.entries(languages).map(([name, words]) => (
          <option key={name} value={name}>
            {words.language}
          </option>
        ))}
      </select>
    </>
  )
}
