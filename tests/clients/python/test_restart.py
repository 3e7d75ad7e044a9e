"""A server that is killed at any moment keeps what it answered."""

import threading
import time

from google.api_core import exceptions

from conftest import LONG, WAIT_LIMIT_SECONDS, wait_until

KILLS = 20 if LONG else 3
# How much must have been answered since the last start before the next kill.
PUBLISHED_BETWEEN_KILLS = 300
ACKED_BETWEEN_KILLS = 100
IN_FLIGHT_MAX = 200
AHEAD_MAX = 2000  # of the slower subscription
AWAY = (exceptions.ServiceUnavailable, exceptions.RetryError, exceptions.DeadlineExceeded)


class Publishing(threading.Thread):
    """Publishes until told to stop, and notes each message id that was answered."""

    def __init__(self, bench, received):
        super().__init__(daemon=True)
        self.bench, self.received, self.answered, self.failed = bench, received, set(), []
        self.stopping, self.room = threading.Event(), threading.Semaphore(IN_FLIGHT_MAX)

    def run(self):
        number = 0
        while not self.stopping.is_set():
            if len(self.answered) > min(map(len, self.received)) + AHEAD_MAX:
                time.sleep(0.001)
                continue
            self.room.acquire()
            future = self.bench.publisher.publish(self.bench.topic, b"letter " * 50, number=str(number))
            future.add_done_callback(self.note)
            number += 1
        for _ in range(IN_FLIGHT_MAX):
            self.room.acquire()

    def note(self, future):
        try:
            self.answered.add(future.result())
        except Exception as error:  # the test fails with it: the client retries what may be retried
            self.failed.append(error)
        self.room.release()


class Pulling(threading.Thread):
    """Pulls and acknowledges in turn, and notes each ack that was answered and whatever came after its ack."""

    def __init__(self, bench, subscription):
        super().__init__(daemon=True)
        self.bench, self.subscription = bench, subscription
        self.acked, self.ack_ids, self.undone, self.failed = set(), [], [], []
        self.stopping = threading.Event()

    def run(self):
        try:
            while not self.stopping.is_set():
                self.turn()
        except Exception as error:  # handed to the test
            self.failed.append(error)

    def turn(self):
        try:
            request = {"subscription": self.subscription, "max_messages": 20}
            received = self.bench.subscriber.pull(request=request, timeout=5).received_messages
            self.undone += [one.message.message_id for one in received if one.message.message_id in self.acked]
            if received:
                ack_ids = [one.ack_id for one in received]
                self.bench.acknowledge(self.subscription, ack_ids)
                self.acked.update(one.message.message_id for one in received)
                self.ack_ids += ack_ids
        except AWAY:
            time.sleep(0.02)


def test_nothing_answered_is_lost_or_undone_when_the_server_is_killed(bench):
    bench.create_topic()
    streamed = bench.create_subscription("streamed")
    pulled = bench.create_subscription("pulled")
    seen, ack_ids = set(), []

    def receive(message):
        seen.add(message.message_id)
        ack_ids.append(message.ack_id)
        message.ack()

    streaming = bench.subscriber.subscribe(streamed, receive)
    pulling = Pulling(bench, pulled)
    publishing = Publishing(bench, [seen, pulling.acked])
    publishing.start()
    pulling.start()
    for _ in range(KILLS):
        published, acked, streamed_count = len(publishing.answered), len(pulling.acked), len(seen)
        wait_until(
            lambda: len(publishing.answered) >= published + PUBLISHED_BETWEEN_KILLS
            and len(pulling.acked) >= acked + ACKED_BETWEEN_KILLS
            and len(seen) > streamed_count
            or publishing.failed or pulling.failed or streaming.done(),
            lambda: f"{len(publishing.answered) - published} published, {len(pulling.acked) - acked} acked, "
            f"{len(seen) - streamed_count} streamed since the last start",
        )
        bench.server.kill()
        bench.server.start()
    acked = len(pulling.acked)
    wait_until(lambda: len(pulling.acked) > acked or pulling.failed, "no pull works after the restart")
    publishing.stopping.set()
    publishing.join(WAIT_LIMIT_SECONDS)
    assert not publishing.failed, publishing.failed[0]
    answered = publishing.answered
    wait_until(
        lambda: answered <= seen and answered <= pulling.acked or pulling.failed or streaming.done(),
        lambda: f"{len(answered - seen)} of {len(answered)} are missing from the stream, "
        f"{len(answered - pulling.acked)} from the pulls",
    )
    assert not streaming.done(), "the stream did not survive the restart"
    pulling.stopping.set()
    pulling.join(WAIT_LIMIT_SECONDS)
    streaming.cancel()
    streaming.result(timeout=WAIT_LIMIT_SECONDS)
    assert not pulling.failed, pulling.failed[0]
    assert answered <= seen and answered <= pulling.acked
    assert not pulling.undone, f"{len(pulling.undone)} messages came again after their ack was answered"
    bench.assert_all_acknowledged(pulled, pulling.ack_ids)


def test_a_clean_stop_keeps_everything_and_exits_with_0(bench):
    bench.create_topic()
    subscription = bench.create_subscription("kept")
    ids = set(bench.publish(20))
    acked = bench.pull_some(subscription, 5)
    bench.acknowledge(subscription, [one.ack_id for one in acked])
    held = bench.pull_some(subscription, 5)
    assert bench.server.stop() == 0
    bench.server.start()
    left = ids - {one.message.message_id for one in acked + held}
    assert {one.message.message_id for one in bench.pull_some(subscription, 10)} == left
    bench.acknowledge(subscription, [one.ack_id for one in held])  # ack ids from before the restart work
    bench.assert_all_acknowledged(subscription, [one.ack_id for one in acked + held])
