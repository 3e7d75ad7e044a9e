"use strict";
// Exactly-once delivery as the client has it by default: an ack whose response says success is never undone, and no
// message comes while the client holds it, also when the server is killed in the middle.

const assert = require("node:assert/strict");
const { describe, test } = require("node:test");
const { setTimeout: sleep } = require("node:timers/promises");

const { AckResponses } = require("@google-cloud/pubsub");

const { LONG, startBench, waitUntil } = require("./client.js");

const KILLS = LONG ? 20 : 3;
const MESSAGES_BETWEEN_KILLS = 200;
// The longest that a handler works on a message, so that some are held when the server is killed.
const WORK_MS_MAX = 500;
// Node takes no header of more than 64 KiB: the names of 800 failed ids.
const FAILED_AT_ONCE = 700;

const createExactlyOnce = (bench) =>
  bench.createSubscription("exactly-once", { enableExactlyOnceDelivery: true, ackDeadlineSeconds: 600 });

const publish = (bench, count) =>
  Promise.all(Array.from({ length: count }, (_, number) => bench.topic.publishMessage({ data: Buffer.from(`${number}`) })));

/** What the promise of an ack with a response came to. */
const outcome = (response) => response.catch((error) => error.errorCode ?? error);

/** Acknowledges every message with a response, and notes what must not happen. */
class Consumer {
  constructor() {
    this.held = new Set();
    this.acked = new Set();
    this.doubled = [];
    this.undone = [];
    this.outcomes = {};
  }

  async receive(message) {
    if (this.held.has(message.id)) this.doubled.push(message.id);
    if (this.acked.has(message.id)) this.undone.push(message.id);
    this.held.add(message.id);
    await sleep(Math.random() * WORK_MS_MAX);
    const answer = await outcome(message.ackWithResponse());
    this.held.delete(message.id);
    this.outcomes[answer] = (this.outcomes[answer] ?? 0) + 1;
    if (answer === AckResponses.Success) this.acked.add(message.id);
  }
}

describe("exactly-once delivery", { concurrency: true }, () => {
  test("what was acknowledged with success stays so when the server is killed", async (t) => {
    const bench = await startBench(t);
    const subscription = await createExactlyOnce(bench);
    const consumer = new Consumer();
    const stop = bench.receive(subscription, (message) => consumer.receive(message));
    const published = [];
    const what = () => `${consumer.acked.size} of ${published.length} are acknowledged: ${JSON.stringify(consumer.outcomes)}`;
    for (let kill = 0; kill < KILLS; kill += 1) {
      published.push(...(await publish(bench, MESSAGES_BETWEEN_KILLS)));
      const acked = consumer.acked.size;
      await waitUntil(() => consumer.acked.size > acked, what);
      await bench.server.kill();
      await bench.server.start();
    }
    await waitUntil(() => consumer.acked.size >= published.length, what);
    await stop();
    assert.deepEqual(consumer.acked, new Set(published));
    assert.deepEqual(consumer.undone, [], "messages came again after their ack");
    assert.deepEqual(consumer.doubled, [], "messages came while they were held");
    assert.deepEqual(Object.keys(consumer.outcomes), [AckResponses.Success]);
  });

  test("an ack after the deadline is invalid and the message comes again", async (t) => {
    const bench = await startBench(t);
    const subscription = await createExactlyOnce(bench);
    const outcomes = [];
    let isFirst = true;
    const stop = bench.receive(subscription, async (message) => {
      const isLate = isFirst;
      isFirst = false;
      if (isLate) await bench.giveUp(subscription, [message.ackId]);
      // Not in one request: where an answer names failed ids, the client takes the others for failed, too.
      else await waitUntil(() => outcomes.length >= 1, () => "the late ack is not answered");
      outcomes.push(await outcome(message.ackWithResponse()));
    });
    await publish(bench, 1);
    await waitUntil(() => outcomes.length >= 2, () => `${outcomes}`);
    await stop();
    assert.deepEqual(outcomes, [AckResponses.Invalid, AckResponses.Success]);
    assert.deepEqual(await bench.pullNow(subscription), []);
  });

  test("many failed ack ids of one request arrive whole", async (t) => {
    const bench = await startBench(t);
    const subscription = await createExactlyOnce(bench);
    const held = [];
    const stop = bench.receive(subscription, (message) => held.push(message));
    await publish(bench, FAILED_AT_ONCE);
    await waitUntil(() => held.length >= FAILED_AT_ONCE, () => `${held.length} messages came`);
    const first = held.slice(0, FAILED_AT_ONCE);
    await bench.giveUp(subscription, first.map(({ ackId }) => ackId));
    const outcomes = await Promise.all(first.map((message) => outcome(message.ackWithResponse())));
    await stop();
    assert.deepEqual(outcomes, Array(FAILED_AT_ONCE).fill(AckResponses.Invalid));
  });
});
