// The example is a test file itself.
import "../../docs/examples/sqlite-store-laws.ts"
