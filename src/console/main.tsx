import { client, run } from "./api/client.ts"
console.log(await run(client.sessions.current()))
