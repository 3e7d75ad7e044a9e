"""The same client over HTTP/JSON: what applications do where gRPC does not get through."""

import pytest
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.iam.v1 import iam_policy_pb2, policy_pb2
from google.protobuf import field_mask_pb2
from google.pubsub_v1 import PublisherClient, SubscriberClient
from google.pubsub_v1.services.publisher.transports import PublisherRestTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberRestTransport

from conftest import PROJECT

DATA = bytes(range(256))


@pytest.fixture
def rest(bench):
    """A publisher and a subscriber that speak REST to the bench's server."""
    settings = {"host": bench.server.host, "url_scheme": "http", "credentials": AnonymousCredentials()}
    publisher = PublisherClient(transport=PublisherRestTransport(**settings))
    return publisher, SubscriberClient(transport=SubscriberRestTransport(**settings))


def test_messages_and_resources_are_the_same_over_rest_and_grpc(bench, rest):
    publisher, subscriber = rest
    topic = publisher.create_topic(request={"name": bench.topic, "labels": {"team": "post"}})
    assert topic == bench.publisher.get_topic(request={"topic": bench.topic})
    path = bench.subscriber.subscription_path(PROJECT, "desk")
    created = subscriber.create_subscription(request={"name": path, "topic": bench.topic, "ack_deadline_seconds": 30})
    assert created == bench.subscriber.get_subscription(request={"subscription": path})

    messages = [{"data": DATA, "attributes": {"ä": "ü"}, "ordering_key": "k"}, {"attributes": {"only": ""}}]
    ids = publisher.publish(request={"topic": bench.topic, "messages": messages}).message_ids
    received = []
    while len(received) < len(ids):
        received += subscriber.pull(request={"subscription": path, "max_messages": 10}).received_messages
    by_id = {one.message.message_id: one.message for one in received}
    first, second = by_id[ids[0]], by_id[ids[1]]
    assert (first.data, dict(first.attributes), first.ordering_key) == (DATA, {"ä": "ü"}, "k")
    assert (second.data, dict(second.attributes)) == (b"", {"only": ""})

    ack_ids = [one.ack_id for one in received]
    request = {"subscription": path, "ack_ids": ack_ids, "ack_deadline_seconds": 60}
    subscriber.modify_ack_deadline(request=request)
    subscriber.acknowledge(request={"subscription": path, "ack_ids": ack_ids})
    bench.assert_all_acknowledged(path, ack_ids)

    updated = subscriber.update_subscription(
        request={
            "subscription": {"name": path, "ack_deadline_seconds": 45},
            "update_mask": field_mask_pb2.FieldMask(paths=["ack_deadline_seconds"]),
        }
    )
    assert updated.ack_deadline_seconds == 45
    project = f"projects/{PROJECT}"
    assert [one.name for one in subscriber.list_subscriptions(request={"project": project})] == [path]
    assert list(publisher.list_topic_subscriptions(request={"topic": bench.topic})) == [path]
    subscriber.delete_subscription(request={"subscription": path})
    publisher.delete_topic(request={"topic": bench.topic})
    with pytest.raises(exceptions.NotFound):
        bench.publisher.get_topic(request={"topic": bench.topic})


def test_pages_and_errors_are_the_same_over_rest(bench, rest):
    publisher, subscriber = rest
    paths = [bench.publisher.topic_path(PROJECT, f"topic-{number}") for number in range(7)]
    for path in paths:
        publisher.create_topic(request={"name": path})
    listed = publisher.list_topics(request={"project": f"projects/{PROJECT}", "page_size": 3})
    assert [one.name for one in listed] == paths
    for request, error in [
        ({"name": paths[0]}, exceptions.Conflict),
        ({"name": f"projects/{PROJECT}/topics/a$b"}, exceptions.BadRequest),
    ]:
        with pytest.raises(error):
            publisher.create_topic(request=request)
    with pytest.raises(exceptions.NotFound, match="Resource not found .resource=none.."):
        subscriber.get_subscription(request={"subscription": f"projects/{PROJECT}/subscriptions/none"})


@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_a_policy_is_set_and_shown(bench, rest, transport):
    topic = bench.create_topic()
    publisher = rest[0] if transport == "rest" else bench.publisher
    bindings = [
        policy_pb2.Binding(role="roles/pubsub.publisher", members=["user:ada@example.com"]),
        policy_pb2.Binding(role="roles/pubsub.viewer", members=["allUsers"]),
    ]
    policy = publisher.get_iam_policy(request=iam_policy_pb2.GetIamPolicyRequest(resource=topic))
    assert policy.etag and not policy.bindings
    policy.bindings.extend(bindings)
    publisher.set_iam_policy(request=iam_policy_pb2.SetIamPolicyRequest(resource=topic, policy=policy))
    shown = publisher.get_iam_policy(request=iam_policy_pb2.GetIamPolicyRequest(resource=topic))
    assert list(shown.bindings) == bindings
    permissions = ["pubsub.topics.publish", "pubsub.topics.get"]
    request = iam_policy_pb2.TestIamPermissionsRequest(resource=topic, permissions=permissions)
    assert list(publisher.test_iam_permissions(request=request).permissions) == permissions
