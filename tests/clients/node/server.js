"use strict";
// A Packetboat server process of a test's own.

const { execFileSync, spawn } = require("node:child_process");
const { once } = require("node:events");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const readline = require("node:readline");

const START_LIMIT_MS = 30_000;
// Makes a location for data, of the kind that is tested.
const LOCATION = path.join(__dirname, "..", "location.sh");

/** Runs `$PACKETBOAT_BIN serve` on an empty location for data until the test `t` ends; its host and port. */
async function startServer(t) {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "packetboat-"));
  const location = execFileSync(LOCATION, [directory], { encoding: "utf8" }).trim().split("\n");
  const logPath = path.join(directory, "server.log");
  const log = fs.openSync(logPath, "a");
  const server = spawn(process.env.PACKETBOAT_BIN, ["serve", "--listen", "127.0.0.1:0", ...location], {
    stdio: ["ignore", "pipe", log],
  });
  fs.closeSync(log);
  const ended = once(server, "exit");
  t.after(async () => {
    server.kill("SIGKILL");
    await ended;
    fs.rmSync(directory, { recursive: true });
  });
  const limit = setTimeout(() => server.kill("SIGKILL"), START_LIMIT_MS);
  try {
    for await (const line of readline.createInterface({ input: server.stdout })) {
      const found = /PUBSUB_EMULATOR_HOST=(\S+)/.exec(line);
      if (found) return found[1];
    }
  } finally {
    clearTimeout(limit);
  }
  throw new Error(`the server did not start; its log:\n${fs.readFileSync(logPath, "utf8")}`);
}

module.exports = { startServer };
