/**
 * A worker of a sandbox that starts once: it reads whatever script it gets, and is used up by that. The thread that is started after it
 * ends before it is ready, as one does for which the system has no memory.
 */
import { workerData } from "node:worker_threads"
import * as SandboxWorker from "../../src/function/internal/SandboxWorker.ts"

const { starts } = workerData as { readonly starts: Int32Array }

if (Atomics.add(starts, 0, 1) > 0) throw new Error("there is no room for a thread")

SandboxWorker.serve({ run: () => Promise.resolve({ type: "checked" }), isWorn: () => true })
