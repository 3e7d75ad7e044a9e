"""Topics and subscriptions as applications create, find, delete and recreate them."""

import pytest
from google.api_core import exceptions
from google.protobuf import field_mask_pb2

from conftest import PROJECT


def test_resources_are_created_found_listed_and_updated(bench):
    topic = bench.create_topic()
    subscription = bench.create_subscription("first", ack_deadline_seconds=30)
    with pytest.raises(exceptions.AlreadyExists):
        bench.create_topic()
    with pytest.raises(exceptions.AlreadyExists):
        bench.create_subscription("first")
    with pytest.raises(exceptions.NotFound):
        bench.publisher.get_topic(request={"topic": topic + "-missing"})
    with pytest.raises(exceptions.NotFound):
        bench.publisher.publish(topic + "-missing", b"lost").result(timeout=30)

    assert bench.publisher.get_topic(request={"topic": topic}).name == topic
    found = bench.subscriber.get_subscription(request={"subscription": subscription})
    assert (found.topic, found.ack_deadline_seconds) == (topic, 30)
    project = f"projects/{PROJECT}"
    assert [one.name for one in bench.publisher.list_topics(request={"project": project})] == [topic]
    assert [one.name for one in bench.subscriber.list_subscriptions(request={"project": project})] == [subscription]
    assert list(bench.publisher.list_topic_subscriptions(request={"topic": topic})) == [subscription]

    updated = bench.subscriber.update_subscription(
        request={
            "subscription": {"name": subscription, "ack_deadline_seconds": 45, "labels": {"team": "post"}},
            "update_mask": field_mask_pb2.FieldMask(paths=["ack_deadline_seconds", "labels"]),
        }
    )
    assert (updated.ack_deadline_seconds, dict(updated.labels)) == (45, {"team": "post"})


def test_a_recreated_subscription_starts_empty(bench):
    bench.create_topic()
    subscription = bench.create_subscription("again")
    bench.publish(3)
    old = bench.pull_some(subscription, 1)
    bench.subscriber.delete_subscription(request={"subscription": subscription})
    with pytest.raises(exceptions.NotFound):
        bench.pull_now(subscription)
    bench.create_subscription("again")
    assert not bench.pull_now(subscription)
    ids = bench.publish(1)
    new = bench.pull_some(subscription, 1)
    assert [one.message.message_id for one in new] == ids
    bench.acknowledge(subscription, [old[0].ack_id])  # of the first life: accepted, without effect
    bench.subscriber.modify_ack_deadline(
        request={"subscription": subscription, "ack_ids": [new[0].ack_id], "ack_deadline_seconds": 0}
    )
    assert [one.message.message_id for one in bench.pull_some(subscription, 1)] == ids


def test_a_subscription_keeps_its_backlog_when_its_topic_is_deleted_and_recreated(bench):
    topic = bench.create_topic()
    old = bench.create_subscription("old")
    before = set(bench.publish(3))
    bench.publisher.delete_topic(request={"topic": topic})
    with pytest.raises(exceptions.NotFound):
        bench.publisher.publish(topic, b"nobody home").result(timeout=30)
    assert bench.subscriber.get_subscription(request={"subscription": old}).topic == "_deleted-topic_"

    bench.create_topic()
    assert list(bench.publisher.list_topic_subscriptions(request={"topic": topic})) == []
    new = bench.create_subscription("new")
    after = set(bench.publish(2))
    assert {one.message.message_id for one in bench.pull_some(old, 3)} == before
    assert not bench.pull_now(old), "the old subscription got a message of the new topic"
    assert {one.message.message_id for one in bench.pull_some(new, 2)} == after
    assert not before & after, "a message id was given twice"


def test_a_stream_of_a_deleted_subscription_ends_with_not_found(bench):
    bench.create_topic()
    subscription = bench.create_subscription("doomed")
    streaming = bench.subscriber.subscribe(subscription, lambda message: message.ack())
    bench.publish(1)
    bench.subscriber.delete_subscription(request={"subscription": subscription})
    with pytest.raises(exceptions.NotFound):
        streaming.result(timeout=30)
