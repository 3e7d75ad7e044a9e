"use strict";
// The documentation's sample of dead letter topics: a subscriber that sees its delivery attempts and gives up.

const assert = require("node:assert/strict");
const { test } = require("node:test");

const { PROJECT, startBench, waitUntil } = require("./client.js");

const SOURCE = "CloudPubSubDeadLetterSource";

test("a message that is nacked five times goes to the dead letter topic", async (t) => {
  const bench = await startBench(t);
  const [dead] = await bench.pubsub.createTopic("dead-letters");
  const [undertaker] = await dead.createSubscription("undertaker");
  const subscription = await bench.createSubscription("worker", {
    deadLetterPolicy: { deadLetterTopic: dead.name, maxDeliveryAttempts: 5 },
  });
  const attempts = [];
  const stop = bench.receive(subscription, (message) => {
    attempts.push(message.deliveryAttempt);
    message.nack();
  });
  const letters = [];
  const stopUndertaker = bench.receive(undertaker, (message) => {
    letters.push(message);
    message.ack();
  });
  const published = await bench.topic.publishMessage({ data: Buffer.from("a letter"), attributes: { origin: "here" } });
  await waitUntil(() => letters.length > 0, () => `attempts: ${attempts}`);
  await stop();
  await stopUndertaker();
  assert.deepEqual(attempts, [1, 2, 3, 4, 5]);
  const [letter] = letters;
  assert.equal(`${letter.data}`, "a letter");
  assert.notEqual(letter.id, published);
  const { [`${SOURCE}TopicPublishTime`]: publishTime, ...attributes } = letter.attributes;
  assert.match(publishTime, /\+00:00$/);
  assert.deepEqual(attributes, {
    origin: "here",
    [`${SOURCE}DeliveryCount`]: "5",
    [`${SOURCE}Subscription`]: "worker",
    [`${SOURCE}SubscriptionProject`]: PROJECT,
  });
  assert.deepEqual(await bench.pullNow(subscription), []);
  assert.deepEqual(await bench.pullNow(undertaker), []);
});
