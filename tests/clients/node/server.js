"use strict";
// A Packetboat server process of a test's own.

const { execFileSync, spawn } = require("node:child_process");
const { randomInt } = require("node:crypto");
const { once } = require("node:events");
const fs = require("node:fs");
const net = require("node:net");
const os = require("node:os");
const path = require("node:path");
const readline = require("node:readline");

const START_LIMIT_MS = 30_000;
// Makes a location for data, of the kind that is tested.
const LOCATION = path.join(__dirname, "..", "location.sh");

/** Runs `$PACKETBOAT_BIN serve` on one port and one location for its data, through kills and restarts. */
class Server {
  #directory;
  #location;
  #process;
  #ended;

  constructor(directory, port) {
    this.#directory = directory;
    this.#location = execFileSync(LOCATION, [directory], { encoding: "utf8" }).trim().split("\n");
    /** What PUBSUB_EMULATOR_HOST has to be. */
    this.host = `127.0.0.1:${port}`;
  }

  /** Returns once the server says that it serves; its log is in `server.log` beside its data. */
  async start() {
    const logPath = path.join(this.#directory, "server.log");
    const log = fs.openSync(logPath, "a");
    this.#process = spawn(process.env.PACKETBOAT_BIN, ["serve", "--listen", this.host, ...this.#location], {
      stdio: ["ignore", "pipe", log],
    });
    fs.closeSync(log);
    this.#ended = once(this.#process, "exit");
    const limit = setTimeout(() => this.#process.kill("SIGKILL"), START_LIMIT_MS);
    try {
      for await (const line of readline.createInterface({ input: this.#process.stdout })) {
        if (line.includes(`PUBSUB_EMULATOR_HOST=${this.host}`)) return;
      }
    } finally {
      clearTimeout(limit);
    }
    throw new Error(`the server did not start; its log:\n${fs.readFileSync(logPath, "utf8")}`);
  }

  /** SIGKILL: no handler of the server runs. */
  async kill() {
    this.#process?.kill("SIGKILL");
    await this.#ended;
  }
}

/**
 * A port that nothing listens at, below the range of outgoing connections: in that, a client that tries again while the
 * server is down could be given the server's port, and talk to itself.
 */
async function freePort() {
  for (;;) {
    const port = randomInt(12_000, 32_000);
    const attempt = net.createServer().listen({ port, host: "127.0.0.1" });
    try {
      await once(attempt, "listening");
    } catch {
      continue; // it is taken
    }
    attempt.close();
    await once(attempt, "close");
    return port;
  }
}

/** A server with an empty location for data, which runs until the test `t` ends. */
async function startServer(t) {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "packetboat-"));
  const server = new Server(directory, await freePort());
  t.after(async () => {
    await server.kill();
    fs.rmSync(directory, { recursive: true });
  });
  await server.start();
  return server;
}

module.exports = { startServer };
