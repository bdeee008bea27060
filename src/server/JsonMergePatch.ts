/**
 * JSON merge patch (RFC 7396): what a client sends is what changes; null removes.
 */
import * as Predicate from "effect/Predicate"
import type * as Schema from "effect/Schema"

interface JsonObject {
  readonly [key: string]: Schema.Json
}

const isObject = (json: Schema.Json | undefined): json is JsonObject => Predicate.isObject(json) && !Array.isArray(json)

/**
 * The target with the patch applied; neither is changed.
 *
 * **Details**
 *
 * Every key is a key: the result's own keys are made from a list of entries, so that `__proto__` and `constructor` mean
 * nothing. Recursion goes as deep as the patch, so bound its depth first.
 */
export const apply = (target: JsonObject, patch: JsonObject): JsonObject => merge(target, patch)

const merge = (target: Schema.Json | undefined, patch: JsonObject): JsonObject => {
  const merged = new Map(isObject(target) ? Object.entries(target) : [])
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) merged.delete(key)
    else merged.set(key, isObject(value) ? merge(merged.get(key), value) : value)
  }
  return Object.fromEntries(merged)
}
