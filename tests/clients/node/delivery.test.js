"use strict";
// Publishing and receiving at the settings that the client has by itself.

const assert = require("node:assert/strict");
const { describe, test } = require("node:test");
const { setTimeout: sleep } = require("node:timers/promises");

const { startBench, waitUntil } = require("./client.js");

const ACK_DEADLINE_SECONDS = 10;

describe("delivery", { concurrency: true }, () => {
  test("what is published is received until it is acknowledged", async (t) => {
    const bench = await startBench(t);
    const subscription = await bench.createSubscription("desk");
    const sent = Array.from({ length: 1000 }, (_, number) => ({
      data: Buffer.from(`letter ${number}`),
      attributes: { number: `${number}`, ä: "ü" },
    }));
    const ids = await Promise.all(sent.map((message) => bench.topic.publishMessage(message)));
    const came = new Map();
    const stop = bench.receive(subscription, (message) => {
      came.set(message.id, { data: message.data, attributes: message.attributes });
      message.ack();
    });
    await waitUntil(() => came.size >= sent.length, () => `${came.size} of ${sent.length} messages came`);
    await stop();
    assert.deepEqual(came, new Map(ids.map((id, number) => [id, sent[number]])));
    assert.deepEqual(await bench.pullNow(subscription), []);
  });

  test("a handler longer than the ack deadline keeps its message", async (t) => {
    const bench = await startBench(t);
    const subscription = await bench.createSubscription("slow", { ackDeadlineSeconds: ACK_DEADLINE_SECONDS });
    let begun = 0;
    let done = 0;
    const stop = bench.receive(subscription, async (message) => {
      begun += 1;
      await sleep(ACK_DEADLINE_SECONDS * 2500); // the work that takes long
      message.ack();
      done += 1;
    });
    await bench.topic.publishMessage({ data: Buffer.from("letter") });
    await waitUntil(() => done > 0, () => "the handler has not ended");
    await stop();
    assert.equal(begun, 1);
    assert.deepEqual(await bench.pullNow(subscription), []);
  });
});
