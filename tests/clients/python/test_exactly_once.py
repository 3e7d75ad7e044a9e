"""Exactly-once delivery as the client has it by default: an ack whose response says success is never undone, and no
message comes while the client holds it, also when the server is killed in the middle."""

import collections
import threading
import time

import pytest
from google.api_core import exceptions
from google.cloud.pubsub_v1.subscriber.exceptions import AcknowledgeStatus

from conftest import LONG, WAIT_LIMIT_SECONDS, wait_until

KILLS = 20 if LONG else 3
MESSAGES_BETWEEN_KILLS = 200
# How long a callback works on a message, so that some are held when the server is killed.
WORK_SECONDS = 0.02


class Consumer:
    """Acknowledges every message with a response, and notes what must not happen."""

    def __init__(self):
        self.lock = threading.Lock()
        self.held, self.acked = set(), set()
        self.doubled, self.undone = [], []
        self.statuses = collections.Counter()

    def __call__(self, message):
        with self.lock:
            if message.message_id in self.held:
                self.doubled.append(message.message_id)
            if message.message_id in self.acked:
                self.undone.append(message.message_id)
            self.held.add(message.message_id)
        time.sleep(WORK_SECONDS)
        message.ack_with_response().add_done_callback(lambda future: self.note(message.message_id, future))

    def note(self, message_id, future):
        error = future.exception()
        status = error.error_code if error else future.result()
        with self.lock:
            self.held.discard(message_id)
            self.statuses[status] += 1
            if status == AcknowledgeStatus.SUCCESS:
                self.acked.add(message_id)


def test_what_was_acknowledged_with_success_stays_so_when_the_server_is_killed(bench):
    bench.create_topic()
    subscription = bench.create_subscription("exactly-once", enable_exactly_once_delivery=True)
    consumer = Consumer()
    streaming = bench.subscriber.subscribe(subscription, consumer)
    published = []
    for _ in range(KILLS):
        published += bench.publish(MESSAGES_BETWEEN_KILLS)
        acked = len(consumer.acked)
        wait_until(lambda: len(consumer.acked) > acked, lambda: f"nothing more is acknowledged: {consumer.statuses}")
        bench.server.kill()
        bench.server.start()
    wait_until(
        lambda: len(consumer.acked) == len(published) or streaming.done(),
        lambda: f"{len(consumer.acked)} of {len(published)} are acknowledged: {consumer.statuses}",
    )
    streaming.cancel()
    streaming.result(timeout=WAIT_LIMIT_SECONDS)
    assert consumer.acked == set(published)
    assert not consumer.undone, f"{len(consumer.undone)} messages came again after their ack"
    assert not consumer.doubled, f"{len(consumer.doubled)} messages came while they were held"
    assert set(consumer.statuses) == {AcknowledgeStatus.SUCCESS}, consumer.statuses


def test_an_ack_after_the_deadline_fails_by_name_and_the_rest_of_its_request_is_applied(bench):
    bench.create_topic()
    subscription = bench.create_subscription("exactly-once", enable_exactly_once_delivery=True)
    bench.publish(2)
    late, valid = (one.ack_id for one in bench.pull_some(subscription, 2))
    request = {"subscription": subscription, "ack_ids": [late], "ack_deadline_seconds": 0}
    bench.subscriber.modify_ack_deadline(request=request)
    with pytest.raises(exceptions.InvalidArgument) as raised:
        bench.acknowledge(subscription, [late, valid])
    assert raised.value.reason == "EXACTLY_ONCE_ACKID_FAILURE"
    assert raised.value.domain == "pubsub.googleapis.com"
    assert raised.value.metadata == {late: "PERMANENT_FAILURE_INVALID_ACK_ID"}
    bench.acknowledge(subscription, [valid])
    again = bench.pull_some(subscription, 1)
    assert again[0].ack_id not in (late, valid)


def test_many_failed_ack_ids_arrive_whole(bench):
    bench.create_topic()
    subscription = bench.create_subscription("exactly-once", enable_exactly_once_delivery=True)
    # From 8 KiB of metadata on, this client refuses answers by chance where it finds the server by its variable.
    bench.publish(40)
    received = bench.pull_some(subscription, 40)
    ack_ids = [one.ack_id for one in received]
    request = {"subscription": subscription, "ack_ids": ack_ids, "ack_deadline_seconds": 0}
    bench.subscriber.modify_ack_deadline(request=request)
    with pytest.raises(exceptions.InvalidArgument) as raised:
        bench.acknowledge(subscription, ack_ids)
    assert set(raised.value.metadata) == set(ack_ids)
