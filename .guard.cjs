"use strict"
// Plain JavaScript on purpose: this file must also run where Node is too old for everything else.
const [major, minor] = process.versions.node.split(".").map(Number)
if (major < 22 || (major === 22 && minor < 19)) {
  console.error(
    "Holdfast needs Node 22.19 or newer; this is Node " +
      process.versions.node +
      ".\n" +
      "Node 24 comes with the checkout as a development dependency. If `npm ci` ran and you still see this,\n" +
      "its install script was blocked: run `npm rebuild` (newer npm: `npm approve-scripts --all && npm rebuild`),\n" +
      "or install Node 22.19 or newer yourself."
  )
  process.exit(1)
}
