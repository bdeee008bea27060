// Builds the console where Vite is installed: `npm ci` runs this. Plain JavaScript, so that it also runs where Node is old.
import { fileURLToPath } from "node:url"

const isMissing = (error) => error.code === "ERR_MODULE_NOT_FOUND"
const vite = await import("vite").catch((error) => (isMissing(error) ? undefined : Promise.reject(error)))
if (vite === undefined) console.log("The console is not built: Vite is not installed. The service runs without it.")
else await vite.build({ configFile: fileURLToPath(new URL("vite.config.ts", import.meta.url)), logLevel: "warn" })
