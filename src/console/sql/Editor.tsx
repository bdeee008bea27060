/**
 * The editor of SQL: CodeMirror in a shadow root, so that its styles need no leave of the page's policy.
 *
 * It lives as long as the component. It is told the text once; from then on the text is its own, and every change is told.
 */
import { autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap } from "@codemirror/autocomplete"
import { defaultKeymap, history, historyKeymap, indentWithTab } from "@codemirror/commands"
import { MySQL, PostgreSQL, sql, SQLite, StandardSQL } from "@codemirror/lang-sql"
import { bracketMatching, HighlightStyle, syntaxHighlighting } from "@codemirror/language"
import { tags } from "@lezer/highlight"
import { Compartment, EditorState, StateEffect, StateField } from "@codemirror/state"
import { Decoration, type DecorationSet, drawSelection, EditorView, keymap, lineNumbers } from "@codemirror/view"
import { useEffect, useRef } from "preact/hooks"
import type { Catalogue } from "./catalogue.ts"

/** What the server did not understand, in the whole text. */
export interface Fault {
  readonly from: number
  readonly to: number
}

export interface EditorProps {
  readonly label: string
  readonly text: string
  readonly kind: string
  readonly catalogue: Catalogue
  readonly fault: Fault | null
  readonly onText: (text: string) => void
  readonly onCursor: (cursor: number) => void
  readonly onRun: () => void
}

const dialects: Readonly<Record<string, typeof PostgreSQL>> = { postgres: PostgreSQL, mysql: MySQL, sqlite: SQLite }

const setFault = StateEffect.define<Fault | null>()
const mark = Decoration.mark({ class: "fault" })
const faults = StateField.define<DecorationSet>({
  create: () => Decoration.none,
  update: (known, { changes, effects }) => {
    const told = effects.findLast((effect) => effect.is(setFault))
    if (told === undefined) return known.map(changes)
    const fault = told.value as Fault | null
    return fault === null ? Decoration.none : Decoration.set([mark.range(fault.from, fault.to)])
  },
  provide: (field) => EditorView.decorations.from(field)
})

const theme = EditorView.theme({
  "&": { height: "100%", fontSize: "13.5px", color: "var(--text)", backgroundColor: "var(--panel)" },
  "&.cm-focused": { outline: "none" },
  ".cm-scroller": { fontFamily: "var(--mono)", lineHeight: "1.55" },
  ".cm-content": { caretColor: "var(--text)", padding: "10px 0" },
  ".cm-gutters": { backgroundColor: "var(--panel)", color: "var(--muted)", border: "none", paddingLeft: "6px" },
  ".cm-cursor": { borderLeftColor: "var(--text)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": {
    backgroundColor: "var(--select)"
  },
  ".cm-matchingBracket": { backgroundColor: "var(--accent-soft)", outline: "1px solid var(--accent)" },
  ".cm-tooltip": { backgroundColor: "var(--raised)", border: "1px solid var(--line)", color: "var(--text)" },
  ".cm-tooltip-autocomplete ul li[aria-selected]": { backgroundColor: "var(--accent)", color: "var(--accent-text)" },
  ".fault": { textDecoration: "underline wavy var(--danger) 1.5px", backgroundColor: "var(--danger-soft)" }
})

const colours = syntaxHighlighting(
  HighlightStyle.define([
    { tag: tags.keyword, color: "var(--accent)", fontWeight: "600" },
    { tag: [tags.string, tags.special(tags.string)], color: "var(--ok)" },
    { tag: [tags.number, tags.bool, tags.null], color: "var(--info)" },
    { tag: tags.comment, color: "var(--muted)", fontStyle: "italic" },
    { tag: tags.typeName, color: "var(--warn)" }
  ])
)

/**
 * Text that takes the place of a selection. The browser would give it the colours of what was there, as a style in its markup, which
 * the page's policy forbids. What an input method composes is left to the browser.
 */
const replacing = EditorView.domEventHandlers({
  beforeinput: (event, view) => {
    if (event.inputType !== "insertText" || event.data === null || event.isComposing) return false
    if (view.state.selection.main.empty) return false
    event.preventDefault()
    view.dispatch(view.state.replaceSelection(event.data), {
      userEvent: event.data.length === 1 ? "input.type" : "input.paste",
      scrollIntoView: true
    })
    return true
  }
})

const languageOf = (kind: string, catalogue: Catalogue) =>
  sql({ dialect: dialects[kind] ?? StandardSQL, schema: catalogue, upperCaseKeywords: false })

export const Editor = (props: EditorProps) => {
  const host = useRef<HTMLDivElement>(null)
  const view = useRef<EditorView>(undefined)
  const now = useRef(props)
  now.current = props
  const language = useRef(new Compartment())

  useEffect(() => {
    if (host.current === null) return
    const root = host.current.shadowRoot ?? host.current.attachShadow({ mode: "open" })
    const run = () => {
      now.current.onRun()
      return true
    }
    const made = new EditorView({
      parent: root,
      root,
      state: EditorState.create({
        doc: now.current.text,
        extensions: [
          keymap.of([
            { key: "Ctrl-Enter", run },
            { key: "Mod-Enter", run }
          ]),
          keymap.of([
            ...closeBracketsKeymap,
            ...completionKeymap,
            ...historyKeymap,
            // Tab goes on to the next control, as everywhere; Ctrl+] indents.
            ...defaultKeymap.filter(({ key }) => key !== indentWithTab.key)
          ]),
          replacing,
          history(),
          lineNumbers(),
          drawSelection(),
          bracketMatching(),
          closeBrackets(),
          autocompletion(),
          language.current.of(languageOf(now.current.kind, now.current.catalogue)),
          faults,
          theme,
          colours,
          EditorView.lineWrapping,
          // Tools for accessibility do not take a text that can be edited for one that can be focused.
          EditorView.contentAttributes.of({ "aria-label": now.current.label, spellcheck: "false", tabindex: "0" }),
          EditorView.updateListener.of(({ docChanged, selectionSet, state }) => {
            if (docChanged) now.current.onText(state.doc.toString())
            if (docChanged || selectionSet) now.current.onCursor(state.selection.main.head)
          })
        ]
      })
    })
    view.current = made
    now.current.onCursor(0)
    return () => made.destroy()
  }, [])

  useEffect(() => {
    view.current?.dispatch({ effects: language.current.reconfigure(languageOf(props.kind, props.catalogue)) })
  }, [props.kind, props.catalogue])
  useEffect(() => {
    view.current?.dispatch({ effects: setFault.of(props.fault) })
  }, [props.fault])
  useEffect(() => {
    const made = view.current
    // Another text that was asked for, such as one of the list.
    if (made !== undefined && made.state.doc.toString() !== props.text) {
      made.dispatch({ changes: { from: 0, to: made.state.doc.length, insert: props.text } })
    }
  }, [props.text])

  return <div class="editor" ref={host} />
}
