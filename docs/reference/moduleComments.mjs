/**
 * A module's first comment describes the module. typedoc itself looks for a tag that says so, which no file of ours has.
 */
import { readFileSync } from "node:fs"
import { Comment, Converter, MinimalSourceFile, ReflectionKind } from "typedoc"

/** @param {import("typedoc").Application} app */
export const load = (app) => {
  app.converter.on(Converter.EVENT_RESOLVE_BEGIN, ({ project }) => {
    for (const module of project.getReflectionsByKind(ReflectionKind.Module)) {
      const file = `${import.meta.dirname}/../../src/${module.name}.ts`
      const [, comment] = /^\/\*\*\n([\s\S]*?) \*\/\n/.exec(readFileSync(file, "utf8")) ?? []
      if (comment === undefined) throw new Error(`${file} has no first comment that describes the module`)
      const text = comment.replaceAll(/^ \* ?/gm, "")
      const { content } = app.converter.parseRawComment(new MinimalSourceFile(text, file), project.files)
      module.comment = new Comment(content)
    }
  })
}
