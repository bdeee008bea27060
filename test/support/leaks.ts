/** For every file of tests, before anything of its own: it must leave nothing open. */
import { afterAll, beforeAll, beforeEach } from "vitest"
import * as LeakCheck from "../../src/testing/LeakCheck.ts"

LeakCheck.suite({ beforeAll, beforeEach, afterAll })
