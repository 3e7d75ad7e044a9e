"""Everything that was published arrives, by either way of receiving, and what was acknowledged is gone."""

import collections
import threading
import time

import pytest

from conftest import LONG, WAIT_LIMIT_SECONDS, wait_until
from payload import content, sizes

COUNT = 50_000 if LONG else 10_000
# The emulator channel of the Python client receives 4 MiB at most.
LARGEST_BYTES = 3_900_000
# The promise is at-least-once; on a busy machine a client may let a lease run out, but not many.
DUPLICATES_MAX = COUNT // 100


def publish_all(bench, every_size) -> dict[str, int]:
    futures = [
        bench.publisher.publish(bench.topic, content(number, size), number=str(number))
        for number, size in enumerate(every_size)
    ]
    ids = {future.result(timeout=WAIT_LIMIT_SECONDS): number for number, future in enumerate(futures)}
    assert len(ids) == len(every_size), "a message id was given twice"
    return ids


def check(message, every_size) -> int:
    number = int(message.attributes["number"])
    assert message.data == content(number, every_size[number]), f"message {number} was altered"
    return number


def test_ten_thousand_messages_of_200_mb_arrive_by_streaming(bench):
    bench.create_topic()
    subscription = bench.create_subscription("streamed")
    every_size = sizes(COUNT, LARGEST_BYTES)
    seen, ack_ids, faults, lock = collections.Counter(), [], [], threading.Lock()

    def receive(message):
        try:
            number = check(message, every_size)
        except AssertionError as fault:
            faults.append(str(fault))
            return
        with lock:
            seen[number] += 1
            ack_ids.append(message.ack_id)
        message.ack()

    streaming = bench.subscriber.subscribe(subscription, receive)
    publish_all(bench, every_size)
    wait_until(
        lambda: len(seen) == COUNT or faults or streaming.done(),
        lambda: f"{len(seen)} of {COUNT} messages came",
    )
    streaming.cancel()
    streaming.result(timeout=WAIT_LIMIT_SECONDS)
    assert not faults and len(seen) == COUNT
    assert seen.total() - COUNT <= DUPLICATES_MAX
    bench.assert_all_acknowledged(subscription, ack_ids)


def test_ten_thousand_messages_of_200_mb_arrive_by_pull(bench):
    bench.create_topic()
    # Nobody extends these leases, and on a busy machine a batch may take longer than the default of 10 s.
    subscription = bench.create_subscription("pulled", ack_deadline_seconds=60)
    every_size = sizes(COUNT, LARGEST_BYTES)
    ids = publish_all(bench, every_size)
    seen, all_ack_ids, total = set(), [], 0
    limit = time.monotonic() + WAIT_LIMIT_SECONDS
    while len(seen) < COUNT:
        assert time.monotonic() < limit, f"{len(seen)} of {COUNT} messages came"
        request = {"subscription": subscription, "max_messages": 1000}
        received = bench.subscriber.pull(request=request).received_messages
        if not received:
            continue
        for one in received:
            number = check(one.message, every_size)
            assert ids[one.message.message_id] == number, "the id is not the one that publish gave"
            seen.add(number)
        ack_ids = [one.ack_id for one in received]
        bench.acknowledge(subscription, ack_ids)
        all_ack_ids += ack_ids
        total += len(received)
    assert total - COUNT <= DUPLICATES_MAX
    bench.assert_all_acknowledged(subscription, all_ack_ids)


@pytest.mark.parametrize("name", ["letters", "l~e.t%t+e_r-s"])
def test_a_message_keeps_its_data_attributes_and_key(bench, name):
    bench.topic = bench.publisher.topic_path("example.com:client-tests", name)
    bench.create_topic()
    subscription = bench.create_subscription("whole")
    message_id = bench.publisher.publish(bench.topic, b"\x00\xff", colour="grün", empty="").result(WAIT_LIMIT_SECONDS)
    message = bench.pull_some(subscription, 1)[0].message
    assert (message.data, dict(message.attributes)) == (b"\x00\xff", {"colour": "grün", "empty": ""})
    assert message.message_id == message_id
    assert message.publish_time.timestamp() > 0
