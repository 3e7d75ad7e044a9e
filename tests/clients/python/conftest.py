"""What the tests share: a server of each test's own, its clients, and how a test waits for and checks things."""

import os
import time
import warnings

import pytest
from google.cloud import pubsub_v1

from server import Server

LONG = os.environ.get("PACKETBOAT_LONG") == "1"
PROJECT = "client-tests"
WAIT_LIMIT_SECONDS = 120


class Bench:
    """A running server, the official clients at their default settings, and one topic with subscriptions."""

    def __init__(self, server: Server):
        self.server = server
        self.publisher = pubsub_v1.PublisherClient()
        self.subscriber = pubsub_v1.SubscriberClient()
        self.topic = self.publisher.topic_path(PROJECT, "letters")

    def create_topic(self) -> str:
        """Creates the topic; its path."""
        self.publisher.create_topic(request={"name": self.topic})
        return self.topic

    def create_subscription(self, name: str, **settings) -> str:
        """Creates a subscription of the topic; its path."""
        path = self.subscriber.subscription_path(PROJECT, name)
        self.subscriber.create_subscription(request={"name": path, "topic": self.topic, **settings})
        return path

    def publish(self, count: int) -> list[str]:
        """Publishes `count` small messages, numbered from 0; their ids."""
        futures = [
            self.publisher.publish(self.topic, b"letter %d" % number, number=str(number)) for number in range(count)
        ]
        return [future.result(timeout=WAIT_LIMIT_SECONDS) for future in futures]

    def pull_now(self, subscription: str, max_messages: int = 1000) -> list:
        """What is deliverable at this moment."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the field is deprecated because production may miss messages with it
            request = {"subscription": subscription, "max_messages": max_messages, "return_immediately": True}
            return list(self.subscriber.pull(request=request).received_messages)

    def pull_some(self, subscription: str, count: int) -> list:
        """Long-polls until `count` messages have come."""
        received = []
        deadline = time.monotonic() + WAIT_LIMIT_SECONDS
        while len(received) < count:
            assert time.monotonic() < deadline, f"{len(received)} of {count} messages came"
            request = {"subscription": subscription, "max_messages": count - len(received)}
            received += self.subscriber.pull(request=request).received_messages
        return received

    def acknowledge(self, subscription: str, ack_ids: list[str]) -> None:
        """Acknowledges, and sees the answer."""
        for start in range(0, len(ack_ids), 1000):
            self.subscriber.acknowledge(
                request={"subscription": subscription, "ack_ids": ack_ids[start : start + 1000]}
            )

    def assert_all_acknowledged(self, subscription: str, ack_ids: list[str]) -> None:
        """Gives up every lease that was handed out: what was not acknowledged would be delivered at once."""
        for start in range(0, len(ack_ids), 1000):
            self.subscriber.modify_ack_deadline(
                request={
                    "subscription": subscription,
                    "ack_ids": ack_ids[start : start + 1000],
                    "ack_deadline_seconds": 0,
                }
            )
        left = self.pull_now(subscription)
        assert not left, f"{len(left)} messages came again after their ack, e.g. {left[0].message.message_id}"


def wait_until(condition, what: str, limit_seconds: float = WAIT_LIMIT_SECONDS) -> None:
    """Returns when `condition()` holds; fails after the limit, naming `what`."""
    deadline = time.monotonic() + limit_seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {limit_seconds} s: {what() if callable(what) else what}"
        time.sleep(0.02)


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """A server with an empty location for data, and clients that find it by PUBSUB_EMULATOR_HOST."""
    server = Server(tmp_path)
    server.start()
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", server.host)
    bench = Bench(server)
    yield bench
    bench.publisher.stop()
    bench.publisher.transport.close()
    bench.subscriber.close()
    server.kill()
