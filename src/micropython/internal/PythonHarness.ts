/**
 * The Python around a script. It is in an interpreter of its own, which is gone after the one execution.
 *
 * **Details**
 *
 * What it says begins with a letter: `r` for a result in JSON, `n` for one that has none, `l` for one that is too long, `c` for a script
 * that can be read, `i` and `f` for one that cannot, or failed, with what was raised in JSON.
 */
export const harness = `
import json, sys, io
def __told(kind, error):
    trace = io.StringIO()
    sys.print_exception(error, trace)
    try:
        text = str(error)
    except BaseException:
        text = ""
    return kind + json.dumps({"name": type(error).__name__, "problem": text[:4096], "stack": trace.getvalue()[-4096:]})
def __go(code, params, context, limit, check):
    try:
        compiled = compile(code, "script", "exec")
    except BaseException as error:
        return __told("i", error)
    if check:
        return "c"
    try:
        names = {"__name__": "script"}
        exec(compiled, names)
        if not callable(names.get("main")):
            raise TypeError("The script has no function main. Begin it with: def main(params, context):")
        value = names["main"](json.loads(params), json.loads(context))
    except BaseException as error:
        return __told("f", error)
    try:
        text = json.dumps(value)
    except BaseException as error:
        return "n" + type(error).__name__
    return "l" if len(text) > limit else "r" + text
__out = __go(__code, __params, __context, __limit, __check)
`
