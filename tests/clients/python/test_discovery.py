"""Google's older client, which is made from the discovery document and speaks only HTTP/JSON."""

import base64
import json

import pytest
from google.auth.credentials import AnonymousCredentials
from googleapiclient import discovery, errors

from conftest import PROJECT

DATA = bytes(range(256))
TOPIC = f"projects/{PROJECT}/topics/letters"
SUBSCRIPTION = f"projects/{PROJECT}/subscriptions/desk"


@pytest.fixture
def projects(bench):
    """The client's methods, on the bench's server. The discovery document is the one that the client brings along."""
    with discovery.build(
        "pubsub",
        "v1",
        static_discovery=True,
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": f"http://{bench.server.host}"},
    ) as service:
        yield service.projects()


def create(projects) -> None:
    """Creates the topic and the subscription."""
    topic = projects.topics().create(name=TOPIC, body={"labels": {"team": "post"}}).execute()
    assert topic == {"name": TOPIC, "labels": {"team": "post"}}
    body = {"topic": TOPIC, "ackDeadlineSeconds": 30}
    subscription = projects.subscriptions().create(name=SUBSCRIPTION, body=body).execute()
    shown = [subscription[field] for field in ("name", "topic", "ackDeadlineSeconds", "state")]
    assert shown == [SUBSCRIPTION, TOPIC, 30, "ACTIVE"]


def refused(request) -> tuple[int, str, str]:
    """The code, the status and the message of the error that answers the request."""
    with pytest.raises(errors.HttpError) as raised:
        request.execute()
    error = raised.value
    return error.status_code, json.loads(error.content)["error"]["status"], error.reason


def test_a_message_comes_until_it_is_acknowledged(projects):
    create(projects)
    message = {"data": base64.b64encode(DATA).decode(), "attributes": {"ä": "ü"}}
    (message_id,) = projects.topics().publish(topic=TOPIC, body={"messages": [message]}).execute()["messageIds"]
    subscriptions = projects.subscriptions()
    (received,) = subscriptions.pull(subscription=SUBSCRIPTION, body={"maxMessages": 10}).execute()["receivedMessages"]
    got = received["message"]
    assert (got["messageId"], base64.b64decode(got["data"]), got["attributes"]) == (message_id, DATA, {"ä": "ü"})

    ids = {"ackIds": [received["ackId"]]}
    at_once = {"maxMessages": 10, "returnImmediately": True}
    extend = {**ids, "ackDeadlineSeconds": 60}
    assert subscriptions.modifyAckDeadline(subscription=SUBSCRIPTION, body=extend).execute() == {}
    assert subscriptions.pull(subscription=SUBSCRIPTION, body=at_once).execute() == {}
    assert subscriptions.acknowledge(subscription=SUBSCRIPTION, body=ids).execute() == {}
    give_up = {**ids, "ackDeadlineSeconds": 0}
    subscriptions.modifyAckDeadline(subscription=SUBSCRIPTION, body=give_up).execute()
    assert subscriptions.pull(subscription=SUBSCRIPTION, body=at_once).execute() == {}


def test_a_patch_changes_what_its_mask_names(projects):
    create(projects)
    body = {"topic": {"labels": {"team": "sorting"}, "kmsKeyName": "not named"}, "updateMask": "labels"}
    topic = projects.topics().patch(name=TOPIC, body=body).execute()
    assert topic == {"name": TOPIC, "labels": {"team": "sorting"}}
    body = {"subscription": {"ackDeadlineSeconds": 45, "labels": {"not": "named"}}, "updateMask": "ackDeadlineSeconds"}
    subscription = projects.subscriptions().patch(name=SUBSCRIPTION, body=body).execute()
    assert subscription["ackDeadlineSeconds"] == 45 and "labels" not in subscription
    assert projects.subscriptions().get(subscription=SUBSCRIPTION).execute() == subscription


def test_a_list_comes_in_pages(projects):
    names = [f"projects/{PROJECT}/topics/topic-{number}" for number in range(7)]
    for name in names:
        projects.topics().create(name=name, body={}).execute()
    pages = []
    request = projects.topics().list(project=f"projects/{PROJECT}", pageSize=3)
    while request is not None:
        page = request.execute()
        pages.append([topic["name"] for topic in page["topics"]])
        request = projects.topics().list_next(request, page)
    assert pages == [names[:3], names[3:6], names[6:]]


def test_errors_have_the_status_and_the_message(projects):
    create(projects)
    missing = projects.topics().get(topic=f"projects/{PROJECT}/topics/none")
    assert refused(missing) == (404, "NOT_FOUND", "Resource not found (resource=none).")
    again = projects.topics().create(name=TOPIC, body={})
    message = "Resource already exists in the project (resource=letters)."
    assert refused(again) == (409, "ALREADY_EXISTS", message)
    code, status, message = refused(projects.topics().create(name=f"projects/{PROJECT}/topics/a$b", body={}))
    assert (code, status) == (400, "INVALID_ARGUMENT")
    assert message.startswith(f"Invalid resource name given (name=projects/{PROJECT}/topics/a$b).")


def test_a_policy_is_replaced_by_who_has_read_it(projects):
    create(projects)
    topics = projects.topics()
    read = topics.getIamPolicy(resource=TOPIC).execute()
    assert list(read) == ["etag"]
    bindings = [{"role": "roles/pubsub.publisher", "members": ["user:ada@example.com"]}]
    body = {"policy": {"bindings": bindings, "etag": read["etag"]}}
    topics.setIamPolicy(resource=TOPIC, body=body).execute()
    assert topics.getIamPolicy(resource=TOPIC).execute()["bindings"] == bindings
    assert refused(topics.setIamPolicy(resource=TOPIC, body=body))[:2] == (409, "ABORTED")
    body = {"permissions": ["pubsub.topics.publish", "pubsub.topics.get"]}
    assert topics.testIamPermissions(resource=TOPIC, body=body).execute() == body


def test_what_is_deleted_is_gone(projects):
    create(projects)
    assert projects.topics().delete(topic=TOPIC).execute() == {}
    subscription = projects.subscriptions().get(subscription=SUBSCRIPTION).execute()
    assert subscription["topic"] == "_deleted-topic_"
    assert projects.subscriptions().delete(subscription=SUBSCRIPTION).execute() == {}
    project = f"projects/{PROJECT}"
    assert projects.topics().list(project=project).execute() == {}
    assert projects.subscriptions().list(project=project).execute() == {}
