"use strict";
// What pages in a real browser can do with a server of the machine on which they are opened.

const assert = require("node:assert/strict");
const { once } = require("node:events");
const http = require("node:http");
const { after, before, describe, test } = require("node:test");

const { startServer } = require("../node/server.js");
const { startBrowser } = require("./browser.js");

const LETTERS = "/v1/projects/p/topics/letters";
const DESK = "/v1/projects/p/subscriptions/desk";
const MESSAGE = '{"messages":[{"data":"aGVsbG8="}]}';
const ALL = '{"maxMessages":100,"returnImmediately":true}';

/** Serves empty pages on every path until the test ends; its port. */
async function servePages(t) {
  const pages = http.createServer((_, answer) => {
    answer.setHeader("content-type", "text/html");
    answer.end("<!DOCTYPE html><title>page</title><body>");
  });
  pages.listen(0, "127.0.0.1");
  await once(pages, "listening");
  t.after(() => pages.close());
  return pages.address().port;
}

/** Calls the server as a client that is no browser does. */
async function call(address, method, path, body) {
  const request = http.request(`http://${address}${path}`, { method, agent: false });
  request.end(body);
  const [answer] = await once(request, "response");
  const pieces = await answer.toArray();
  assert.equal(answer.statusCode, 200, Buffer.concat(pieces).toString());
  return JSON.parse(Buffer.concat(pieces).toString());
}

/** A topic with a subscription and one message. */
async function prepare(address) {
  await call(address, "PUT", LETTERS, "{}");
  await call(address, "PUT", DESK, '{"topic":"projects/p/topics/letters","ackDeadlineSeconds":600}');
  await call(address, "POST", `${LETTERS}:publish`, MESSAGE);
}

/** Fails unless that message is there, and was delivered to nobody. */
async function assertUntouched(address) {
  await call(address, "GET", LETTERS);
  const { receivedMessages } = await call(address, "POST", `${DESK}:pull`, ALL);
  assert.equal(receivedMessages?.length, 1);
}

/** What becomes of a request that a page sends by `fetch`: its status and text, or nothing of it. */
function fetched(page, url, options) {
  const ask = async (target, given) => {
    try {
      const answer = await fetch(target, given);
      return [answer.type, answer.status, await answer.text()];
    } catch {
      return "nothing";
    }
  };
  return page.evaluate(ask, url, options);
}

describe("pages in a browser", () => {
  let browser;
  let end;
  before(async () => ({ browser, end } = await startBrowser()));
  after(() => end());

  test("a page of another site reads nothing and changes nothing", async (t) => {
    const { host: address } = await startServer(t);
    await prepare(address);
    const port = await servePages(t);
    const page = await browser.newPage();
    await page.goto(`http://evil.example:${port}/`);
    const server = `http://${address}`;
    const text = { "content-type": "text/plain" };
    const json = { "content-type": "application/json" };
    for (const headers of [text, json]) {
      for (const [path, body] of [[`${DESK}:pull`, ALL], [`${LETTERS}:publish`, MESSAGE]]) {
        assert.equal(await fetched(page, server + path, { method: "POST", headers, body }), "nothing");
      }
    }
    assert.equal(await fetched(page, server + LETTERS, { method: "DELETE" }), "nothing");
    assert.equal(await fetched(page, server + LETTERS, {}), "nothing");
    for (const [path, body] of [[`${DESK}:pull`, ALL], [`${LETTERS}:publish`, MESSAGE]]) {
      // Sent without asking; the page sees no answer, so what matters is whether anything was done.
      const options = { method: "POST", mode: "no-cors", headers: text, body };
      assert.deepEqual(await fetched(page, server + path, options), ["opaque", 0, ""]);
    }

    // A form, which takes the whole window there: its body is JSON with an equals sign within a text.
    for (const origin of ["its own", "none"]) {
      await page.goto(`http://evil.example:${port}/`);
      const answered = page.waitForNavigation();
      await page.evaluate((action, isHidden) => {
        const field = `<input name='{"messages":[{"data":"' value='aGVsbG8="}]}'>`;
        const form = `<form method="post" enctype="text/plain" action="${action}">${field}</form>`;
        document.body.innerHTML = form;
        if (isHidden) document.head.innerHTML = '<meta name="referrer" content="no-referrer">';
        document.forms[0].submit();
      }, `${server}${LETTERS}:publish`, origin === "none");
      assert.equal((await answered).status(), 403, origin);
    }
    await assertUntouched(address);
  });

  test("a name that is pointed to this machine is not answered", async (t) => {
    const { host: address } = await startServer(t);
    await prepare(address);
    const [, port] = address.split(":");
    const page = await browser.newPage();
    for (const path of [LETTERS, "/docs", "/healthz"]) {
      const answer = await page.goto(`http://rebound.example:${port}${path}`);
      assert.equal(answer.status(), 403, path);
      assert.match(await answer.text(), /--allowed-host/);
    }
    // The page's own scripts came when the name still pointed elsewhere; to the browser all of it is one origin.
    await page.setBypassCSP(true);
    await page.goto(`http://rebound.example:${port}/`);
    const options = { method: "POST", headers: { "content-type": "application/json" }, body: ALL };
    const [, status] = await fetched(page, `${DESK}:pull`, options);
    assert.equal(status, 403);
    const [, seen] = await fetched(page, LETTERS, {});
    assert.equal(seen, 403);
    await assertUntouched(address);
  });

  test("a page of this machine may use the server, and /docs works under its own policy", async (t) => {
    const { host: address } = await startServer(t);
    await prepare(address);
    const port = await servePages(t);
    const page = await browser.newPage();
    await page.goto(`http://localhost:${port}/`);
    const headers = { "content-type": "application/json" };
    const options = { method: "POST", headers, body: MESSAGE };
    const [type, status] = await fetched(page, `http://${address}${LETTERS}:publish`, options);
    assert.deepEqual([type, status], ["cors", 200]);
    const { receivedMessages } = await call(address, "POST", `${DESK}:pull`, ALL);
    assert.equal(receivedMessages.length, 2);

    const problems = [];
    page.on("console", (line) => line.type() === "error" && problems.push(line.text()));
    page.on("pageerror", (error) => problems.push(error.message));
    await page.goto(`http://${address}/docs`);
    await page.waitForSelector(".opblock");
    assert.deepEqual(problems, []);

    // Nobody frames it, this machine's pages neither.
    await page.goto(`http://localhost:${port}/`);
    const framed = await page.evaluate(async (url) => {
      const frame = document.createElement("iframe");
      const loaded = new Promise((resolve) => (frame.onload = resolve));
      frame.src = url;
      document.body.append(frame);
      await loaded;
      return frame.contentDocument === null;
    }, `http://${address}/docs`);
    const shown = page.frames().map((frame) => frame.url());
    assert.ok(framed && !shown.includes(`http://${address}/docs`), shown.join());
  });
});
