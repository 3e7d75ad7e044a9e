"use strict";
// The official client on a server of a test's own, and how a test waits.

const assert = require("node:assert/strict");
const { setTimeout: sleep } = require("node:timers/promises");

const { PubSub, v1 } = require("@google-cloud/pubsub");

const { startServer } = require("./server.js");

// The client would look for a metadata server, which a machine outside Google's cloud waits seconds for.
process.env.METADATA_SERVER_DETECTION = "none";

const PROJECT = "client-tests";
const LONG = process.env.PACKETBOAT_LONG === "1";
const WAIT_LIMIT_MS = 120_000;

/** A running server, the client at its default settings, and one topic. */
class Bench {
  #receiving = [];

  async start(t) {
    t.after(() => this.#close());
    this.server = await startServer(t);
    this.pubsub = new PubSub({ projectId: PROJECT, apiEndpoint: this.server.host });
    this.topic = this.pubsub.topic("letters");
  }

  /** Creates a subscription of the topic. */
  async createSubscription(name, settings = {}) {
    const [subscription] = await this.topic.createSubscription(name, settings);
    return subscription;
  }

  /** Gives every message to `handle` until the returned function is called, or the test ends. */
  receive(subscription, handle) {
    let failed;
    this.#receiving.push(subscription);
    subscription.on("error", (error) => (failed ??= error));
    subscription.on("message", handle);
    return async () => {
      await subscription.close();
      assert.equal(failed, undefined);
    };
  }

  /** What is deliverable at this moment. */
  async pullNow(subscription) {
    const request = { maxMessages: 1000, returnImmediately: true };
    const { receivedMessages } = await this.call("pull", subscription, request);
    return receivedMessages;
  }

  /** Ends the leases of these ack ids: what was not acknowledged comes again. */
  giveUp(subscription, ackIds) {
    return this.call("modifyAckDeadline", subscription, { ackIds, ackDeadlineSeconds: 0 });
  }

  /** The answer of one call of the generated client. */
  async call(method, subscription, request) {
    const client = new v1.SubscriberClient(await this.pubsub.getClientConfig());
    try {
      const [answer] = await client[method]({ subscription: subscription.name, ...request });
      return answer;
    } finally {
      await client.close();
    }
  }

  async #close() {
    await Promise.all(this.#receiving.map((subscription) => subscription.close()));
    await this.pubsub?.close();
  }
}

/** Starts both, and creates the topic unless told that there is none yet. */
async function startBench(t, { withTopic = true } = {}) {
  const bench = new Bench();
  await bench.start(t);
  if (withTopic) await bench.topic.create();
  return bench;
}

/** Returns when `condition()` holds; fails after the limit, naming `what()`. */
async function waitUntil(condition, what) {
  const limit = Date.now() + WAIT_LIMIT_MS;
  while (!condition()) {
    assert.ok(Date.now() < limit, `after ${WAIT_LIMIT_MS} ms: ${what()}`);
    await sleep(20);
  }
}

module.exports = { LONG, PROJECT, startBench, waitUntil };
