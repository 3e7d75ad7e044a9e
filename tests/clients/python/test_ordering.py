"""Message ordering, as the documentation's samples use it: each key's messages come in order, to the end."""

import collections
import threading
import time

import pytest
from google.cloud import pubsub_v1
from google.cloud.pubsub_v1.publisher.exceptions import PublishToPausedOrderingKeyException

from conftest import LONG, WAIT_LIMIT_SECONDS, wait_until

KILLS = 20 if LONG else 3
KEYS = 16
# How many must have been received since the last start before the next kill.
RECEIVED_BETWEEN_KILLS = 200
AHEAD_MAX = 500


def ordering_publisher() -> pubsub_v1.PublisherClient:
    return pubsub_v1.PublisherClient(
        publisher_options=pubsub_v1.types.PublisherOptions(enable_message_ordering=True)
    )


class Receiver:
    """Receives at the client's default settings; notes of each key in which order its numbers first came."""

    def __init__(self, bench, subscription: str, handle=None):
        self.firsts = collections.defaultdict(dict)
        self.count = 0
        self.handle = handle or (lambda message, number: message.ack())
        self.lock = threading.Lock()
        self.streaming = bench.subscriber.subscribe(subscription, self.receive)

    def receive(self, message) -> None:
        number = int(message.data)
        with self.lock:
            if number not in self.firsts[message.ordering_key]:
                self.firsts[message.ordering_key][number] = None
                self.count += 1
        self.handle(message, number)

    def numbers(self, key: str) -> list[int]:
        with self.lock:
            return list(self.firsts[key])

    def stop(self) -> None:
        self.streaming.cancel()
        self.streaming.result(timeout=WAIT_LIMIT_SECONDS)


def test_messages_of_each_key_come_in_the_order_in_which_they_were_published(bench):
    bench.create_topic()
    subscription = bench.create_subscription("ordered", enable_message_ordering=True)
    publisher = ordering_publisher()
    numbers = [(number, f"key-{number % KEYS}") for number in range(1000)]
    futures = [publisher.publish(bench.topic, b"%d" % number, ordering_key=key) for number, key in numbers]
    for future in futures:
        future.result(timeout=WAIT_LIMIT_SECONDS)
    receiver = Receiver(bench, subscription)
    wait_until(lambda: receiver.count == 1000, lambda: f"{receiver.count} of 1000 messages came")
    receiver.stop()
    for key in range(KEYS):
        assert receiver.numbers(f"key-{key}") == list(range(key, 1000, KEYS))


def test_publishing_of_a_key_is_resumed_after_an_error(bench):
    publisher = ordering_publisher()
    failed = publisher.publish(bench.topic, b"0", ordering_key="key")
    with pytest.raises(Exception, match="Resource not found"):
        failed.result(timeout=WAIT_LIMIT_SECONDS)
    bench.create_topic()
    subscription = bench.create_subscription("resumed", enable_message_ordering=True)
    with pytest.raises(PublishToPausedOrderingKeyException):
        publisher.publish(bench.topic, b"0", ordering_key="key").result(timeout=WAIT_LIMIT_SECONDS)
    publisher.resume_publish(bench.topic, "key")
    for number in range(20):
        publisher.publish(bench.topic, b"%d" % number, ordering_key="key")
    receiver = Receiver(bench, subscription)
    wait_until(lambda: receiver.count == 20, lambda: f"{receiver.count} of 20 messages came")
    receiver.stop()
    assert receiver.numbers("key") == list(range(20))


def test_a_nack_brings_back_what_follows_in_its_key_and_holds_up_no_other(bench):
    bench.create_topic()
    subscription = bench.create_subscription("nacked", enable_message_ordering=True)
    publisher = ordering_publisher()
    came, nacks, lock = [], [], threading.Lock()

    def handle(message, number):
        with lock:
            if message.ordering_key == "nacked":
                came.append(number)
                if number == 3 and len(nacks) < 5:
                    nacks.append(number)
                    return message.nack()
        return message.ack()

    for number in range(10):
        for key in ("nacked", "other"):
            publisher.publish(bench.topic, b"%d" % number, ordering_key=key).result(timeout=WAIT_LIMIT_SECONDS)
    receiver = Receiver(bench, subscription, handle)
    # The client goes on with what it holds of the key, so that may come before the third again.
    wait_until(lambda: came.count(3) == 6 and receiver.count == 20, lambda: f"these came: {came}")
    receiver.stop()
    assert receiver.numbers("nacked") == list(range(10))
    wait_until(lambda: not bench.pull_now(subscription), "something was left")


class OrderedPublishing(threading.Thread):
    """Publishes one key after the other until told to stop; each key's numbers go up by one."""

    def __init__(self, bench, received):
        super().__init__(daemon=True)
        self.publisher, self.topic, self.received = ordering_publisher(), bench.topic, received
        self.published = [0] * KEYS
        self.futures = []
        self.stopping = threading.Event()

    def run(self):
        while not self.stopping.is_set():
            if sum(self.published) - self.received() > AHEAD_MAX:
                time.sleep(0.001)
                continue
            for key in range(KEYS):
                data = b"%d" % self.published[key]
                self.futures.append(self.publisher.publish(self.topic, data, ordering_key=f"key-{key}"))
                self.published[key] += 1


def test_keys_keep_their_order_while_the_server_is_killed(bench):
    bench.create_topic()
    subscription = bench.create_subscription("killed", enable_message_ordering=True)
    receiver = Receiver(bench, subscription)
    publishing = OrderedPublishing(bench, lambda: receiver.count)
    publishing.start()
    for _ in range(KILLS):
        wanted = receiver.count + RECEIVED_BETWEEN_KILLS
        wait_until(lambda: receiver.count >= wanted, lambda: f"{receiver.count} of {wanted} messages came")
        bench.server.kill()
        bench.server.start()
    publishing.stopping.set()
    publishing.join(WAIT_LIMIT_SECONDS)
    for future in publishing.futures:
        future.result(timeout=WAIT_LIMIT_SECONDS)
    total = sum(publishing.published)
    wait_until(lambda: receiver.count == total, lambda: f"{receiver.count} of {total} messages came")
    receiver.stop()
    for key, published in enumerate(publishing.published):
        assert receiver.numbers(f"key-{key}") == list(range(published))
