/**
 * The words of the page, in the language that was chosen or that the browser prefers.
 */
import * as Store from "../app/store.ts"
import { en } from "./en.ts"
import { ja } from "./ja.ts"

export type Words = typeof en
export const languages = { en, ja } as const satisfies Readonly<Record<string, Words>>
export type Language = keyof typeof languages

const isLanguage = (text: string): text is Language => Object.hasOwn(languages, text)
const preferred: Language = navigator.languages.find((tag) => /^(?:en|ja)\b/.test(tag))?.startsWith("ja") ? "ja" : "en"

export const language = Store.kept<Language>("language", preferred, isLanguage)

const apply = (): void => {
  document.documentElement.lang = language.get()
}
language.subscribe(apply)
apply()

/** The words now, for what is no component. */
export const words = (): Words => languages[language.get()]

/** The words now; the component is drawn again in another language. */
export const useWords = (): Words => languages[Store.useStore(language)]
