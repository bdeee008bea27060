import "../../docs/examples/store-on-a-server.ts"
