"""A server that is killed at any moment keeps what it answered, and delivers to each subscription its own messages."""

import functools
import threading
import time

from google.api_core import exceptions

from conftest import LONG, PROJECT, WAIT_LIMIT_SECONDS, wait_until

KILLS = 60 if LONG else 3
TOPICS = 4
MESSAGE_BYTES = 300
# How much must have been answered since the last start before the next kill, over all topics.
PUBLISHED_BETWEEN_KILLS = 300
ACKED_BETWEEN_KILLS = 100
IN_FLIGHT_MAX = 200
AHEAD_MAX = 2000  # of the slower kind of subscription, over all topics
AWAY = (exceptions.ServiceUnavailable, exceptions.RetryError, exceptions.DeadlineExceeded)

LAGGING_KILLS = 60 if LONG else 2
LAGGING_TOPICS = 8
LAGGING_BYTES = 10_000
# Over all topics: for each of them several times what the server reads at once for one subscription.
LAGGING_AHEAD = 8000
LAGGING_PULL = 100
# Of each subscription, after each start.
LAGGING_PULLS = 3


class Topic:
    """A topic and what was published to it: the number of the message for each message id that was answered."""

    def __init__(self, bench, name: str, message_bytes: int):
        self.name, self.message_bytes = name, message_bytes
        self.path = bench.publisher.topic_path(PROJECT, name)
        bench.publisher.create_topic(request={"name": self.path})
        self.answered: dict[str, int] = {}

    def content(self, number: int) -> bytes:
        """Data that says which message of which topic it is; equally long for all."""
        text = f"{self.name} letter {number:08} ".encode()
        return text * (self.message_bytes // len(text))

    def subscribe(self, bench, name: str) -> "Subscription":
        path = bench.subscriber.subscription_path(PROJECT, f"{self.name}-{name}")
        bench.subscriber.create_subscription(request={"name": path, "topic": self.path})
        return Subscription(self, path)


class Subscription:
    """What a subscription received: each message must be of its topic, with the data that was published under its id."""

    def __init__(self, topic: Topic, path: str):
        self.topic, self.path = topic, path
        self.received: dict[str, int] = {}
        self.wrong: list[str] = []

    def note(self, message) -> None:
        number = int(message.attributes["number"])
        known = self.received.setdefault(message.message_id, number)
        if message.data != self.topic.content(number) or known != number:
            self.wrong.append(f"{message.message_id}: {message.data[:40]!r} of {self.path}")

    def missing(self) -> int:
        """How many of the answered messages have not come."""
        return len(self.topic.answered.keys() - self.received.keys())

    def assert_right(self) -> None:
        assert not self.wrong, f"{len(self.wrong)} wrong deliveries, e.g. {self.wrong[0]}"
        other = [id for id, number in self.topic.answered.items() if self.received.get(id) != number]
        assert not other, f"{len(other)} message ids did not come or came with other data, e.g. {other[0]}"


class Publishing(threading.Thread):
    """Publishes to all topics in turn until told to stop, and notes each message id that was answered.

    Keeps at most `ahead_max` messages ahead of what `received()` says."""

    def __init__(self, bench, topics: list[Topic], received, ahead_max: int):
        super().__init__(daemon=True)
        self.bench, self.topics, self.received, self.ahead_max = bench, topics, received, ahead_max
        self.failed, self.stopping, self.room = [], threading.Event(), threading.Semaphore(IN_FLIGHT_MAX)

    def answered(self) -> int:
        return sum(len(topic.answered) for topic in self.topics)

    def ahead(self) -> int:
        return self.answered() - self.received()

    def run(self):
        number = 0
        while not self.stopping.is_set():
            if self.ahead() > self.ahead_max:
                time.sleep(0.001)
                continue
            self.room.acquire()
            topic = self.topics[number % len(self.topics)]
            future = self.bench.publisher.publish(topic.path, topic.content(number), number=str(number))
            future.add_done_callback(functools.partial(self.note, topic, number))
            number += 1
        for _ in range(IN_FLIGHT_MAX):
            self.room.acquire()

    def note(self, topic: Topic, number: int, future) -> None:
        try:
            topic.answered[future.result()] = number
        except Exception as error:  # the test fails with it: the client retries what may be retried
            self.failed.append(error)
        self.room.release()


class Pulling(threading.Thread):
    """Pulls and acknowledges in turn, and notes each ack that was answered and whatever came after its ack."""

    def __init__(self, bench, subscription: Subscription, max_messages: int = 20):
        super().__init__(daemon=True)
        self.bench, self.subscription, self.max_messages = bench, subscription, max_messages
        self.acked, self.ack_ids, self.undone, self.failed = set(), [], [], []
        self.stopping = threading.Event()

    def run(self):
        try:
            while not self.stopping.is_set():
                self.pull_and_acknowledge()
        except Exception as error:  # handed to the test
            self.failed.append(error)

    def pull_and_acknowledge(self):
        try:
            request = {"subscription": self.subscription.path, "max_messages": self.max_messages}
            received = self.bench.subscriber.pull(request=request, timeout=5).received_messages
            for one in received:
                self.subscription.note(one.message)
                if one.message.message_id in self.acked:
                    self.undone.append(one.message.message_id)
            if received:
                ack_ids = [one.ack_id for one in received]
                self.bench.acknowledge(self.subscription.path, ack_ids)
                self.acked.update(one.message.message_id for one in received)
                self.ack_ids += ack_ids
        except AWAY:
            time.sleep(0.02)


def test_nothing_answered_is_lost_undone_or_mixed_up_when_the_server_is_killed(bench):
    topics = [Topic(bench, f"topic-{number}", MESSAGE_BYTES) for number in range(TOPICS)]
    streamed = [topic.subscribe(bench, "streamed") for topic in topics]
    pulled = [topic.subscribe(bench, "pulled") for topic in topics]

    def receive(subscription: Subscription):
        def callback(message):
            subscription.note(message)
            message.ack()

        return bench.subscriber.subscribe(subscription.path, callback)

    streaming = [receive(subscription) for subscription in streamed]
    pulling = [Pulling(bench, subscription) for subscription in pulled]

    def stream_count() -> int:
        return sum(len(subscription.received) for subscription in streamed)

    def ack_count() -> int:
        return sum(len(one.acked) for one in pulling)

    publishing = Publishing(bench, topics, lambda: min(stream_count(), ack_count()), AHEAD_MAX)

    def is_over() -> bool:
        wrong = any(subscription.wrong for subscription in streamed + pulled)
        return (
            wrong
            or bool(publishing.failed)
            or any(one.failed for one in pulling)
            or any(stream.done() for stream in streaming)
        )

    for thread in [publishing, *pulling]:
        thread.start()
    for _ in range(KILLS):
        published, acked, streams = publishing.answered(), ack_count(), stream_count()
        wait_until(
            lambda: publishing.answered() >= published + PUBLISHED_BETWEEN_KILLS
            and ack_count() >= acked + ACKED_BETWEEN_KILLS
            and stream_count() > streams
            or is_over(),
            lambda: f"{publishing.answered() - published} published, {ack_count() - acked} acked, "
            f"{stream_count() - streams} streamed since the last start",
        )
        bench.server.kill()
        bench.server.start()
    acked = ack_count()
    wait_until(lambda: ack_count() > acked or is_over(), "no pull works after the restart")
    publishing.stopping.set()
    publishing.join(WAIT_LIMIT_SECONDS)
    assert not publishing.failed, publishing.failed[0]

    def missing() -> int:
        not_acked = (topic.answered.keys() - one.acked for topic, one in zip(topics, pulling))
        return sum(map(Subscription.missing, streamed)) + sum(map(len, not_acked))

    wait_until(lambda: missing() == 0 or is_over(), lambda: f"{missing()} of {publishing.answered()} are missing")
    assert not any(stream.done() for stream in streaming), "a stream did not survive the restart"
    for one in pulling:
        one.stopping.set()
    for one in pulling:
        one.join(WAIT_LIMIT_SECONDS)
    for stream in streaming:
        stream.cancel()
        stream.result(timeout=WAIT_LIMIT_SECONDS)
    for subscription in streamed + pulled:
        subscription.assert_right()
    for one in pulling:
        assert not one.failed, one.failed[0]
        assert not one.undone, f"{len(one.undone)} messages came again after their ack was answered"
        bench.assert_all_acknowledged(one.subscription.path, one.ack_ids)


def test_lagging_subscriptions_get_the_messages_of_their_own_topics_after_each_kill(bench):
    topics = [Topic(bench, f"topic-{number}", LAGGING_BYTES) for number in range(LAGGING_TOPICS)]
    subscriptions = [topic.subscribe(bench, "lagging") for topic in topics]
    pulling = [Pulling(bench, subscription, LAGGING_PULL) for subscription in subscriptions]
    publishing = Publishing(bench, topics, lambda: sum(len(one.acked) for one in pulling), LAGGING_AHEAD)
    publishing.start()
    for _ in range(LAGGING_KILLS):
        wait_until(
            lambda: publishing.ahead() >= LAGGING_AHEAD or publishing.failed,
            lambda: f"the subscriptions are {publishing.ahead()} messages behind",
        )
        bench.server.kill()
        bench.server.start()
        for one in pulling * LAGGING_PULLS:
            one.pull_and_acknowledge()
            assert not one.subscription.wrong, f"{len(one.subscription.wrong)} wrong, e.g. {one.subscription.wrong[0]}"
    publishing.stopping.set()
    publishing.join(WAIT_LIMIT_SECONDS)
    assert not publishing.failed, publishing.failed[0]

    def missing() -> int:
        return sum(len(one.subscription.topic.answered.keys() - one.acked) for one in pulling)

    deadline = time.monotonic() + WAIT_LIMIT_SECONDS
    while missing():
        assert time.monotonic() < deadline, f"{missing()} messages are missing"
        for one in pulling:
            if one.subscription.topic.answered.keys() - one.acked:
                one.pull_and_acknowledge()
    for one in pulling:
        one.subscription.assert_right()
        assert not one.undone, f"{len(one.undone)} messages came again after their ack was answered"
        bench.assert_all_acknowledged(one.subscription.path, one.ack_ids)
