"""Settings of subscriptions that change what is delivered, as the documentation's samples make them."""

import threading
import time

from google.api_core.exceptions import InvalidArgument
from google.protobuf import duration_pb2
from google.pubsub_v1.types import RetryPolicy

import pytest

from conftest import WAIT_LIMIT_SECONDS, wait_until


def retry_policy(minimum: int, maximum: int) -> RetryPolicy:
    return RetryPolicy(
        minimum_backoff=duration_pb2.Duration(seconds=minimum),
        maximum_backoff=duration_pb2.Duration(seconds=maximum),
    )


def test_a_filtered_subscription_gets_what_matches_and_has_no_other_backlog(bench):
    bench.create_topic()
    bills = bench.create_subscription("bills", filter='attributes.kind = "bill" AND NOT attributes:draft')
    kinds = [{"kind": "bill"}, {"kind": "offer"}, {"kind": "bill", "draft": ""}, {}] * 50
    futures = [bench.publisher.publish(bench.topic, b"%d" % n, **kind) for n, kind in enumerate(kinds)]
    ids = [future.result(timeout=WAIT_LIMIT_SECONDS) for future in futures]
    seen, lock = {}, threading.Lock()

    def receive(message):
        with lock:
            seen[message.message_id] = message.data
        message.ack()

    streaming = bench.subscriber.subscribe(bills, receive)
    wait_until(lambda: len(seen) == 50, lambda: f"{len(seen)} of 50 messages came")
    streaming.cancel()
    streaming.result(timeout=WAIT_LIMIT_SECONDS)
    assert seen == {ids[n]: b"%d" % n for n in range(0, 200, 4)}
    assert not bench.pull_now(bills)
    with pytest.raises(InvalidArgument, match="Invalid filter"):
        bench.create_subscription("wrong", filter="attributes.kind = bill")


def test_a_nacked_message_waits_for_its_backoff_while_others_come(bench):
    bench.create_topic()
    subscription = bench.create_subscription("retried", retry_policy=retry_policy(1, 2))
    times, others, lock = [], [], threading.Lock()

    def receive(message):
        with lock:
            if message.data != b"fails":
                others.append(time.monotonic())
                message.ack()
                return
            times.append(time.monotonic())
            if len(times) < 4:
                message.nack()
            else:
                message.ack()

    streaming = bench.subscriber.subscribe(subscription, receive)
    bench.publisher.publish(bench.topic, b"fails").result(timeout=WAIT_LIMIT_SECONDS)
    wait_until(lambda: times, "the message came")
    bench.publish(10)
    wait_until(lambda: len(others) == 10, "the others came")
    wait_until(lambda: len(times) == 4, lambda: f"it came {len(times)} times")
    streaming.cancel()
    streaming.result(timeout=WAIT_LIMIT_SECONDS)
    gaps = [later - earlier for earlier, later in zip(times, times[1:])]
    assert all(gap >= least for gap, least in zip(gaps, [1, 2, 2])), gaps
    assert max(others) < times[1], "the others were held up"
