"""What is not acknowledged comes again, and what a client holds does not."""

import collections
import threading
import time

from google.cloud import pubsub_v1

from conftest import WAIT_LIMIT_SECONDS, wait_until

ACK_DEADLINE_SECONDS = 10


def test_a_nacked_message_is_delivered_again(bench):
    bench.create_topic()
    subscription = bench.create_subscription("nacked", ack_deadline_seconds=600)
    deliveries, ack_ids, lock = collections.Counter(), [], threading.Lock()

    def receive(message):
        with lock:
            deliveries[message.attributes["number"]] += 1
            again = deliveries[message.attributes["number"]] > 1
            ack_ids.append(message.ack_id)
        message.ack() if again else message.nack()

    streaming = bench.subscriber.subscribe(subscription, receive)
    bench.publish(50)
    wait_until(
        lambda: len(deliveries) == 50 and min(deliveries.values()) == 2,
        lambda: f"deliveries by message: {deliveries}",
        limit_seconds=30,
    )
    streaming.cancel()
    streaming.result(timeout=WAIT_LIMIT_SECONDS)
    assert set(deliveries.values()) == {2}
    bench.assert_all_acknowledged(subscription, ack_ids)


def test_messages_of_a_client_that_vanishes_come_again_after_the_ack_deadline(bench):
    bench.create_topic()
    subscription = bench.create_subscription("abandoned", ack_deadline_seconds=ACK_DEADLINE_SECONDS)
    ids = set(bench.publish(5))
    asked_at = time.monotonic()
    first = bench.pull_some(subscription, 5)
    pulled_at = time.monotonic()
    assert {one.message.message_id for one in first} == ids
    assert not bench.pull_now(subscription), "a leased message was delivered to another client"

    again = bench.pull_some(subscription, 5)
    came_at = time.monotonic()
    assert {one.message.message_id for one in again} == ids
    assert came_at - asked_at >= ACK_DEADLINE_SECONDS
    assert came_at - pulled_at < ACK_DEADLINE_SECONDS + 5
    assert not {one.ack_id for one in first} & {one.ack_id for one in again}, "an ack id was given twice"
    bench.acknowledge(subscription, [one.ack_id for one in again])
    bench.assert_all_acknowledged(subscription, [one.ack_id for one in first + again])


def test_a_callback_longer_than_the_ack_deadline_keeps_its_message(bench):
    bench.create_topic()
    subscription = bench.create_subscription("slow", ack_deadline_seconds=ACK_DEADLINE_SECONDS)
    deliveries, ack_ids, done = [], [], threading.Event()

    def receive(message):
        deliveries.append(message.message_id)
        ack_ids.append(message.ack_id)
        time.sleep(2.5 * ACK_DEADLINE_SECONDS)  # the work that takes long
        message.ack()
        done.set()

    streaming = bench.subscriber.subscribe(subscription, receive)
    ids = bench.publish(1)
    assert done.wait(WAIT_LIMIT_SECONDS)
    streaming.cancel()
    streaming.result(timeout=WAIT_LIMIT_SECONDS)
    assert deliveries == ids, "it was delivered again while its lease was extended"
    bench.assert_all_acknowledged(subscription, ack_ids)


def test_a_subscriber_never_holds_more_than_its_flow_control_allows(bench):
    bench.create_topic()
    subscription = bench.create_subscription("paced", ack_deadline_seconds=60)
    bench.publish(100)
    held, most, acked, released, lock = set(), 0, [], threading.Event(), threading.Lock()

    def receive(message):
        nonlocal most
        with lock:
            held.add(message.message_id)
            most = max(most, len(held))
        released.wait(WAIT_LIMIT_SECONDS)
        with lock:
            held.discard(message.message_id)
            acked.append(message.ack_id)
        message.ack()

    flow_control = pubsub_v1.types.FlowControl(max_messages=5)
    streaming = bench.subscriber.subscribe(subscription, receive, flow_control=flow_control)
    wait_until(lambda: len(held) == 5, lambda: f"the subscriber holds {len(held)} messages, not 5")
    # Nothing waits inside that client: all the others are there for somebody else.
    others = bench.pull_some(subscription, 95)
    assert not bench.pull_now(subscription)
    returned = [one.ack_id for one in others]
    bench.subscriber.modify_ack_deadline(
        request={"subscription": subscription, "ack_ids": returned, "ack_deadline_seconds": 0}
    )
    released.set()
    wait_until(lambda: len(acked) == 100, lambda: f"{len(acked)} of 100 messages came")
    streaming.cancel()
    streaming.result(timeout=WAIT_LIMIT_SECONDS)
    assert most == 5
    bench.assert_all_acknowledged(subscription, acked + returned)
