/**
 * Values of rows as they came: no number is changed, and text is text.
 */

export interface Column {
  readonly name: string
  readonly type: string
}

/** A number that JavaScript would write otherwise: its digits. */
export class Digits {
  readonly digits: string
  constructor(digits: string) {
    this.digits = digits
  }
  toJSON(): unknown {
    const { rawJSON } = JSON as { readonly rawJSON?: (digits: string) => unknown }
    return rawJSON === undefined ? this.digits : rawJSON(this.digits)
  }
}

export type Value = unknown
export type Row = ReadonlyArray<Value>

/** A page of rows as the API tells it. */
export interface Page {
  readonly columns: ReadonlyArray<Column>
  readonly rows: ReadonlyArray<Row>
  readonly next: string | null
}

/** Keeps the digits of numbers that would be written otherwise. */
const exactly = (_key: string, value: unknown, context?: { readonly source?: string }): unknown =>
  typeof value === "number" && context?.source !== undefined && String(value) !== context.source
    ? new Digits(context.source)
    : value

/** Reads a page of JSON without changing a number. */
export const parse = (text: string): Page =>
  JSON.parse(text, exactly as (key: string, value: unknown) => unknown) as Page

/** A value as it is shown and copied: text as it is, all else as JSON. */
export const textOf = (value: Value): string =>
  value === null || value === undefined
    ? ""
    : typeof value === "string"
      ? value
      : value instanceof Digits
        ? value.digits
        : JSON.stringify(value)
