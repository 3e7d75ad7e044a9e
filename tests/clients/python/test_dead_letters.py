"""The documentation's sample of dead letter topics: a subscriber that sees its delivery attempts and gives up."""

import threading

from conftest import PROJECT, WAIT_LIMIT_SECONDS, wait_until

ATTEMPTS_MAX = 5
SOURCE = "CloudPubSubDeadLetterSource"


def test_a_message_that_is_nacked_five_times_goes_to_the_dead_letter_topic(bench):
    topic = bench.create_topic()
    dead = bench.publisher.topic_path(PROJECT, "dead-letters")
    bench.publisher.create_topic(request={"name": dead})
    undertaker = bench.subscriber.subscription_path(PROJECT, "undertaker")
    bench.subscriber.create_subscription(request={"name": undertaker, "topic": dead})
    policy = {"dead_letter_topic": dead, "max_delivery_attempts": ATTEMPTS_MAX}
    subscription = bench.create_subscription("worker", dead_letter_policy=policy)
    shown = bench.subscriber.get_subscription(request={"subscription": subscription})
    assert shown.dead_letter_policy.dead_letter_topic == dead
    attempts, lock = [], threading.Lock()

    def receive(message):
        with lock:
            attempts.append(message.delivery_attempt)
        message.nack()

    streaming = bench.subscriber.subscribe(subscription, receive)
    published = bench.publisher.publish(topic, b"a letter", origin="here").result(timeout=WAIT_LIMIT_SECONDS)
    wait_until(lambda: len(attempts) == ATTEMPTS_MAX, lambda: f"attempts: {attempts}", limit_seconds=30)
    [received] = bench.pull_some(undertaker, 1)
    streaming.cancel()
    streaming.result(timeout=WAIT_LIMIT_SECONDS)
    assert attempts == [1, 2, 3, 4, 5]
    message = received.message
    assert message.data == b"a letter" and message.message_id != published
    attributes = dict(message.attributes)
    assert attributes.pop(f"{SOURCE}TopicPublishTime").endswith("+00:00")
    assert attributes == {
        "origin": "here",
        f"{SOURCE}DeliveryCount": "5",
        f"{SOURCE}Subscription": "worker",
        f"{SOURCE}SubscriptionProject": PROJECT,
    }
    bench.acknowledge(undertaker, [received.ack_id])
    bench.assert_all_acknowledged(undertaker, [received.ack_id])
