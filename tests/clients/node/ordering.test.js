"use strict";
// Message ordering, as the documentation's samples use it: each key's messages come in order, to the end.

const assert = require("node:assert/strict");
const { describe, test } = require("node:test");
const { setTimeout: sleep } = require("node:timers/promises");

const { LONG, startBench, waitUntil } = require("./client.js");

const KILLS = LONG ? 20 : 2;
const KEYS = 16;
const MESSAGES_OF_EACH_KEY = 60;
// How many must have been received since the last start before the next kill.
const RECEIVED_BETWEEN_KILLS = 200;
const AHEAD_MAX = 500;
const DEADLINE_EXCEEDED = 4;
const ORDERED = { enableMessageOrdering: true };

const upTo = (count) => Array.from({ length: count }, (_, number) => number);

const orderedTopic = (bench) => bench.pubsub.topic(bench.topic.name, { messageOrdering: true });

const publish = (topic, orderingKey, number) => topic.publishMessage({ data: Buffer.from(`${number}`), orderingKey });

/** The numbers that came, by ordering key, each where it first came. */
class Arrivals {
  constructor() {
    this.numbers = {};
    this.count = 0;
  }

  add(message) {
    const numbers = (this.numbers[message.orderingKey] ??= new Set());
    numbers.add(Number(`${message.data}`));
    this.count = Object.values(this.numbers).reduce((sum, { size }) => sum + size, 0);
  }

  /** Waits for all of `counts`, and checks that each key's came in order. */
  async assertInOrder(counts) {
    const wanted = Object.values(counts).reduce((sum, count) => sum + count, 0);
    await waitUntil(() => this.count >= wanted, () => `${this.count} of ${wanted} messages came`);
    for (const [key, count] of Object.entries(counts)) {
      assert.deepEqual([...(this.numbers[key] ?? [])], upTo(count), key);
    }
  }
}

/** Acknowledges what comes, and notes its order. */
const receiveInto = (bench, subscription, arrivals) =>
  bench.receive(subscription, (message) => {
    arrivals.add(message);
    message.ack();
  });

describe("ordering", { concurrency: true }, () => {
  test("messages of each key come in the order in which they were published", async (t) => {
    const bench = await startBench(t);
    const subscription = await bench.createSubscription("ordered", ORDERED);
    const topic = orderedTopic(bench);
    const keys = upTo(KEYS).map((number) => `key-${number}`);
    const sent = upTo(MESSAGES_OF_EACH_KEY).flatMap((number) => keys.map((key) => publish(topic, key, number)));
    await Promise.all(sent);
    const arrivals = new Arrivals();
    const stop = receiveInto(bench, subscription, arrivals);
    await arrivals.assertInOrder(Object.fromEntries(keys.map((key) => [key, MESSAGES_OF_EACH_KEY])));
    await stop();
  });

  test("publishing of a key is resumed after an error", async (t) => {
    const bench = await startBench(t, { withTopic: false });
    const topic = orderedTopic(bench);
    const failed = await Promise.allSettled(upTo(3).map((number) => publish(topic, "key", number)));
    for (const { reason } of failed) assert.match(reason?.message, /Resource not found/);
    await bench.topic.create();
    const subscription = await bench.createSubscription("resumed", ORDERED);
    topic.resumePublishing("key");
    await Promise.all(upTo(20).map((number) => publish(topic, "key", number)));
    const arrivals = new Arrivals();
    const stop = receiveInto(bench, subscription, arrivals);
    await arrivals.assertInOrder({ key: 20 });
    await stop();
  });

  test("a nack brings back what follows in its key and holds up no other", async (t) => {
    const bench = await startBench(t);
    const subscription = await bench.createSubscription("nacked", ORDERED);
    const topic = orderedTopic(bench);
    await Promise.all(upTo(10).flatMap((number) => ["nacked", "other"].map((key) => publish(topic, key, number))));
    const acknowledged = new Arrivals();
    let deliveries = 0;
    const stop = bench.receive(subscription, (message) => {
      const number = Number(`${message.data}`);
      if (message.orderingKey === "nacked" && number >= 3) {
        if (number === 3) deliveries += 1;
        if (deliveries <= 5) return message.nack();
      }
      acknowledged.add(message);
      return message.ack();
    });
    await waitUntil(() => deliveries >= 6, () => `the nacked message came ${deliveries} times`);
    await acknowledged.assertInOrder({ nacked: 10, other: 10 });
    await stop();
  });

  test("keys keep their order while the server is killed", async (t) => {
    const bench = await startBench(t);
    const subscription = await bench.createSubscription("killed", ORDERED);
    const topic = orderedTopic(bench);
    const arrivals = new Arrivals();
    const stop = receiveInto(bench, subscription, arrivals);
    const keys = upTo(KEYS).map((number) => `key-${number}`);
    let publishing = true;
    let published = 0;
    const publishKey = async (key) => {
      let next = 0;
      let refused = -1;
      while (publishing || refused >= 0) {
        if (published > arrivals.count + AHEAD_MAX && refused < 0) {
          await sleep(1);
          continue;
        }
        const sent = await Promise.allSettled(upTo(4).map((number) => publish(topic, key, next + number)));
        refused = sent.findIndex(({ status }) => status === "rejected");
        if (refused >= 0) {
          // The client tries for a minute, later and later. What it gave up, stored or not, is published again.
          assert.equal(sent[refused].reason.code, DEADLINE_EXCEEDED, sent[refused].reason);
          topic.resumePublishing(key);
        }
        const answered = refused < 0 ? sent.length : refused;
        next += answered;
        published += answered;
      }
      return [key, next];
    };
    const publishers = Promise.all(keys.map(publishKey));
    publishers.catch(() => {}); // it is awaited below
    for (const _ of upTo(KILLS)) {
      const wanted = arrivals.count + RECEIVED_BETWEEN_KILLS;
      await waitUntil(() => arrivals.count >= wanted, () => `${arrivals.count} of ${wanted} messages came`);
      await bench.server.kill();
      await bench.server.start();
    }
    publishing = false;
    const counts = Object.fromEntries(await publishers);
    await arrivals.assertInOrder(counts);
    await stop();
  });
});
