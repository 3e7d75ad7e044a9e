"use strict";
// A Chromium without a window, from npm: its version is pinned, and no package of the system is needed for it.

const { execFileSync } = require("node:child_process");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");

const LIBRARIES = "al2023.tar.br";

/** A browser, to which all names under `.example` are this machine's, and what ends it. */
async function startBrowser() {
  const { default: chromium, inflate, setupLambdaEnvironment } = require("@sparticuz/chromium");
  const { default: puppeteer } = require("puppeteer-core");
  // It is unpacked into the folder for temporary files, which is this test's own.
  const unpacked = fs.mkdtempSync(path.join(os.tmpdir(), "packetboat-browser-"));
  process.env.TMPDIR = unpacked;
  const executablePath = await chromium.executablePath();
  if (execFileSync("ldd", [executablePath], { encoding: "utf8" }).includes("not found")) {
    const packed = path.join(path.dirname(require.resolve("@sparticuz/chromium")), "..", "bin", LIBRARIES);
    setupLambdaEnvironment(path.join(await inflate(packed), "lib"));
  }
  // Not the package's own arguments: they turn off what separates sites from each other. The sandbox of processes needs
  // rights that containers lack, and nothing here is of a stranger's.
  const args = ["--host-resolver-rules=MAP *.example 127.0.0.1", "--no-proxy-server", "--no-sandbox", "--no-zygote"];
  args.push("--disable-gpu", "--disable-dev-shm-usage");
  const browser = await puppeteer.launch({ executablePath, args, headless: "shell" });
  const end = async () => {
    await browser.close();
    fs.rmSync(unpacked, { recursive: true, force: true });
  };
  return { browser, end };
}

module.exports = { startBrowser };
