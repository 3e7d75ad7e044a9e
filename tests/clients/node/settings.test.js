"use strict";
// Settings of subscriptions that change what is delivered, as the documentation's samples make them.

const assert = require("node:assert/strict");
const { describe, test } = require("node:test");

const { startBench, waitUntil } = require("./client.js");

const retryPolicy = (minimum, maximum) => ({
  retryPolicy: { minimumBackoff: { seconds: minimum }, maximumBackoff: { seconds: maximum } },
});

describe("settings", { concurrency: true }, () => {
  test("a filtered subscription gets what matches and has no other backlog", async (t) => {
    const bench = await startBench(t);
    const bills = await bench.createSubscription("bills", {
      filter: 'attributes.kind = "bill" AND NOT attributes:draft',
    });
    const kinds = [{ kind: "bill" }, { kind: "offer" }, { kind: "bill", draft: "" }, {}];
    const sent = Array.from({ length: 200 }, (_, number) => kinds[number % 4]);
    const data = Buffer.from("letter");
    const ids = await Promise.all(sent.map((attributes) => bench.topic.publishMessage({ data, attributes })));
    const came = new Set();
    const stop = bench.receive(bills, (message) => {
      came.add(message.id);
      message.ack();
    });
    await waitUntil(() => came.size >= 50, () => `${came.size} of 50 messages came`);
    await stop();
    assert.deepEqual(came, new Set(ids.filter((_, number) => number % 4 === 0)));
    assert.deepEqual(await bench.pullNow(bills), []);
    await assert.rejects(bench.createSubscription("wrong", { filter: "attributes.kind = bill" }), /Invalid filter/);
  });

  test("a nacked message waits for its backoff", async (t) => {
    const bench = await startBench(t);
    const subscription = await bench.createSubscription("retried", retryPolicy(1, 2));
    const times = [];
    const stop = bench.receive(subscription, (message) => {
      times.push(performance.now());
      if (times.length < 4) message.nack();
      else message.ack();
    });
    await bench.topic.publishMessage({ data: Buffer.from("fails") });
    await waitUntil(() => times.length >= 4, () => `it came ${times.length} times`);
    await stop();
    const waited = times.slice(1).map((time, nacks) => time - times[nacks]);
    assert.ok([1000, 2000, 2000].every((least, nacks) => waited[nacks] >= least), `${waited}`);
  });

  test("a message in its backoff holds up no other", async (t) => {
    const bench = await startBench(t);
    const subscription = await bench.createSubscription("waiting", retryPolicy(600, 600));
    const came = [];
    const stop = bench.receive(subscription, (message) => {
      came.push(`${message.data}`);
      if (`${message.data}` === "fails") message.nack();
      else message.ack();
    });
    await bench.topic.publishMessage({ data: Buffer.from("fails") });
    await waitUntil(() => came.length > 0, () => "nothing came");
    await Promise.all(Array.from({ length: 10 }, () => bench.topic.publishMessage({ data: Buffer.from("other") })));
    await waitUntil(() => came.filter((data) => data === "other").length >= 10, () => `these came: ${came}`);
    await stop();
    assert.deepEqual(came, ["fails", ...Array(10).fill("other")]);
    assert.deepEqual(await bench.pullNow(subscription), []);
  });
});
