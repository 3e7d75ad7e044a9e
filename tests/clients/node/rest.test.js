"use strict";
// Google's REST client for Node, which is made from the discovery document.

const assert = require("node:assert/strict");
const { describe, test } = require("node:test");

const { google } = require("googleapis");

const { startServer } = require("./server.js");

const PROJECT = "projects/client-tests";
const TOPIC = `${PROJECT}/topics/letters`;
const SUBSCRIPTION = `${PROJECT}/subscriptions/desk`;
const CALL_LIMIT_MS = 30_000;
const DATA = Buffer.from(Array.from({ length: 256 }, (_, at) => at));

/** The client's methods, on a server of the test's own. */
async function startRest(t) {
  const rootUrl = `http://${(await startServer(t)).host}/`;
  return google.pubsub({ version: "v1", rootUrl, timeout: CALL_LIMIT_MS }).projects;
}

/** Creates the topic and the subscription. */
async function create({ topics, subscriptions }) {
  const { data: topic } = await topics.create({ name: TOPIC, requestBody: { labels: { team: "post" } } });
  assert.deepEqual(topic, { name: TOPIC, labels: { team: "post" } });
  const requestBody = { topic: TOPIC, ackDeadlineSeconds: 30 };
  const { data: created } = await subscriptions.create({ name: SUBSCRIPTION, requestBody });
  const { name, topic: of, ackDeadlineSeconds, state } = created;
  assert.deepEqual([name, of, ackDeadlineSeconds, state], [SUBSCRIPTION, TOPIC, 30, "ACTIVE"]);
}

/** Checks the code, the status and the beginning of the message of the error that answers a request. */
async function assertRefused(request, code, status, message) {
  await assert.rejects(request, (error) => {
    const answer = error.response.data.error;
    assert.deepEqual([error.status, answer.code, answer.status], [code, code, status]);
    assert.ok(error.message.startsWith(message), error.message);
    return true;
  });
}

describe("REST", () => {
  test("a message comes until it is acknowledged", async (t) => {
    const projects = await startRest(t);
    await create(projects);
    const { topics, subscriptions } = projects;
    const message = { data: DATA.toString("base64"), attributes: { ä: "ü" } };
    const published = await topics.publish({ topic: TOPIC, requestBody: { messages: [message] } });
    const [messageId] = published.data.messageIds;
    const pull = async (requestBody) => (await subscriptions.pull({ subscription: SUBSCRIPTION, requestBody })).data;
    const { receivedMessages } = await pull({ maxMessages: 10 });
    assert.equal(receivedMessages.length, 1);
    const { publishTime, ...got } = receivedMessages[0].message;
    assert.deepEqual(got, { ...message, messageId });
    assert.ok(Date.parse(publishTime));

    const ackIds = [receivedMessages[0].ackId];
    const modify = (ackDeadlineSeconds) =>
      subscriptions.modifyAckDeadline({ subscription: SUBSCRIPTION, requestBody: { ackIds, ackDeadlineSeconds } });
    const atOnce = { maxMessages: 10, returnImmediately: true };
    await modify(60);
    assert.deepEqual(await pull(atOnce), {});
    await subscriptions.acknowledge({ subscription: SUBSCRIPTION, requestBody: { ackIds } });
    await modify(0);
    assert.deepEqual(await pull(atOnce), {});
  });

  test("a patch changes what its mask names", async (t) => {
    const projects = await startRest(t);
    await create(projects);
    const { topics, subscriptions } = projects;
    const labels = { team: "sorting" };
    let requestBody = { topic: { labels, kmsKeyName: "not named" }, updateMask: "labels" };
    const { data: topic } = await topics.patch({ name: TOPIC, requestBody });
    assert.deepEqual(topic, { name: TOPIC, labels });
    requestBody = { subscription: { ackDeadlineSeconds: 45, labels }, updateMask: "ackDeadlineSeconds" };
    const { data: patched } = await subscriptions.patch({ name: SUBSCRIPTION, requestBody });
    assert.deepEqual([patched.ackDeadlineSeconds, patched.labels], [45, undefined]);
    assert.deepEqual((await subscriptions.get({ subscription: SUBSCRIPTION })).data, patched);
  });

  test("a list comes in pages", async (t) => {
    const { topics } = await startRest(t);
    const names = Array.from({ length: 7 }, (_, number) => `${PROJECT}/topics/topic-${number}`);
    for (const name of names) await topics.create({ name, requestBody: {} });
    const pages = [];
    let pageToken;
    do {
      const { data: page } = await topics.list({ project: PROJECT, pageSize: 3, pageToken });
      pages.push(page.topics.map(({ name }) => name));
      pageToken = page.nextPageToken;
    } while (pageToken);
    assert.deepEqual(pages, [names.slice(0, 3), names.slice(3, 6), names.slice(6)]);
  });

  test("errors have the status and the message", async (t) => {
    const projects = await startRest(t);
    await create(projects);
    const { topics } = projects;
    const missing = topics.get({ topic: `${PROJECT}/topics/none` });
    await assertRefused(missing, 404, "NOT_FOUND", "Resource not found (resource=none).");
    const again = topics.create({ name: TOPIC, requestBody: {} });
    const taken = "Resource already exists in the project (resource=letters).";
    await assertRefused(again, 409, "ALREADY_EXISTS", taken);
    const name = `${PROJECT}/topics/a$b`;
    const wrong = topics.create({ name, requestBody: {} });
    await assertRefused(wrong, 400, "INVALID_ARGUMENT", `Invalid resource name given (name=${name}).`);
  });

  test("a policy is replaced by who has read it", async (t) => {
    const projects = await startRest(t);
    await create(projects);
    const { topics } = projects;
    const { data: read } = await topics.getIamPolicy({ resource: TOPIC });
    assert.deepEqual(Object.keys(read), ["etag"]);
    const bindings = [{ role: "roles/pubsub.publisher", members: ["user:ada@example.com"] }];
    const policy = { bindings, etag: read.etag };
    await topics.setIamPolicy({ resource: TOPIC, requestBody: { policy } });
    assert.deepEqual((await topics.getIamPolicy({ resource: TOPIC })).data.bindings, bindings);
    await assertRefused(topics.setIamPolicy({ resource: TOPIC, requestBody: { policy } }), 409, "ABORTED", "");
    const requestBody = { permissions: ["pubsub.topics.publish", "pubsub.topics.get"] };
    const { data: held } = await topics.testIamPermissions({ resource: TOPIC, requestBody });
    assert.deepEqual(held, requestBody);
  });

  test("what is deleted is gone", async (t) => {
    const projects = await startRest(t);
    await create(projects);
    const { topics, subscriptions } = projects;
    await topics.delete({ topic: TOPIC });
    const { data: left } = await subscriptions.get({ subscription: SUBSCRIPTION });
    assert.equal(left.topic, "_deleted-topic_");
    await subscriptions.delete({ subscription: SUBSCRIPTION });
    assert.deepEqual((await topics.list({ project: PROJECT })).data, {});
    assert.deepEqual((await subscriptions.list({ project: PROJECT })).data, {});
  });
});
