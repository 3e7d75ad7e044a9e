//! StreamingPull: opening, pings, deadlines, and acks by any route.

use packetboat::proto::google::pubsub::v1::StreamingPullRequest;
use tonic::Code;

use crate::support::{
    admin::{subscription_name, with_subscription},
    ok, refused, refused_with,
    stream::{PullStream, opening},
    values::{ack_ids, numbered, texts},
};

#[tokio::test]
async fn case_35_a_stream_opens_only_for_a_subscription_that_can_be_pulled() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    let detached = client.subscription("detached", &topic).await;
    ok(client.detach(&detached).await);
    let deadline = |stream_ack_deadline_seconds| StreamingPullRequest {
        stream_ack_deadline_seconds,
        ..opening(&subscription)
    };
    let mut cases = vec![
        (opening(""), Code::InvalidArgument),
        (opening("worker"), Code::InvalidArgument),
        (opening(&subscription_name("missing")), Code::NotFound),
        (opening(&detached), Code::FailedPrecondition),
    ];
    for seconds in [0, 9, 601, -1, i32::MAX, i32::MIN] {
        cases.push((deadline(seconds), Code::InvalidArgument));
    }
    for (first, code) in cases {
        let what = format!("{first:?}");
        // The refusal may come instead of the response headers or after them.
        let status = match client.open(first).await {
            Ok(mut stream) => stream.end().await,
            Err(status) => status,
        };
        assert_eq!(status.code(), code, "{what}: {status:?}");
    }
    for seconds in [10, 600] {
        client.open(deadline(seconds)).await.expect("in range");
    }
}

#[tokio::test]
async fn case_35_a_stream_closed_before_its_first_request_is_an_invalid_argument() {
    let (_pubsub, client, _topic, _subscription) = with_subscription().await;
    let nothing = futures_util::stream::empty::<StreamingPullRequest>();
    let mut subscriber = client.subscriber();
    let status = match subscriber.streaming_pull(nothing).await {
        Ok(response) => {
            let mut responses = response.into_inner();
            responses.message().await.expect_err("no first request")
        }
        Err(status) => status,
    };
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
}

#[tokio::test]
async fn case_36_a_stream_on_an_idle_subscription_opens_without_waiting_for_a_message() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    let version_0 = StreamingPullRequest {
        protocol_version: 0,
        ..opening(&subscription)
    };
    // The call resolves when response headers have come.
    let mut stream = client.open(version_0).await.expect("it opens");
    client.publish_text(&topic, "a").await;
    assert_eq!(texts(&stream.receive(1).await), ["a"]);
}

#[tokio::test]
async fn case_37_a_ping_is_answered_while_idle_and_while_flow_control_holds_messages_back() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    let first = StreamingPullRequest {
        max_outstanding_messages: 1,
        ..opening(&subscription)
    };
    let mut stream = client.open(first).await.expect("it opens");
    stream.pong_after_ping().await;
    client.publish(&topic, &numbered(5)).await;
    stream.receive(1).await;
    stream.assert_no_message("one is outstanding").await;
    // A deadline makes a request no less of a ping.
    stream
        .send(StreamingPullRequest {
            stream_ack_deadline_seconds: 60,
            ..Default::default()
        })
        .await;
    stream.pong().await;
}

#[tokio::test]
async fn case_37_a_stream_of_version_0_gets_no_answer_to_a_ping() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    let version_0 = StreamingPullRequest {
        protocol_version: 0,
        ..opening(&subscription)
    };
    let mut stream = client.open(version_0).await.expect("it opens");
    for number in 0..3 {
        stream.ping().await;
        client.publish_text(&topic, &number.to_string()).await;
        let frame = stream.frame().await;
        assert_eq!(frame.received_messages.len(), 1, "an empty frame came");
    }
}

#[tokio::test]
async fn case_38_every_frame_carries_the_subscriptions_properties() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    let mut stream = client.stream(&subscription).await;
    let (mut pongs, mut messages) = (0, 0);
    for number in 0..50 {
        client.publish_text(&topic, &number.to_string()).await;
        stream.ping().await;
        while pongs <= number || messages <= number {
            let frame = stream.frame().await;
            let properties = frame.subscription_properties.expect("on every frame");
            assert!(!properties.exactly_once_delivery_enabled);
            assert!(!properties.message_ordering_enabled);
            assert_eq!(frame.acknowledge_confirmation, None);
            assert_eq!(frame.modify_ack_deadline_confirmation, None);
            messages += frame.received_messages.len();
            pongs += usize::from(frame.received_messages.is_empty());
            let ack_ids = frame.received_messages.into_iter().map(|one| one.ack_id);
            let ack_ids: Vec<_> = ack_ids.collect();
            if !ack_ids.is_empty() {
                stream.ack(ack_ids).await;
            }
        }
    }
}

#[tokio::test]
async fn case_42_ack_ids_are_good_on_any_stream_and_in_any_call() {
    let (pubsub, client, topic, subscription) = with_subscription().await;
    let limited = StreamingPullRequest {
        max_outstanding_messages: 3,
        ..opening(&subscription)
    };
    client.publish(&topic, &numbered(4)).await;
    let mut a = client.open(limited).await.expect("it opens");
    let of_a = a.receive(3).await;
    let pulled = client.receive(&subscription, 1).await;
    let mut b = client.stream(&subscription).await;

    ok(client.ack(&subscription, ack_ids(&of_a[..1])).await);
    b.ack(ack_ids(&of_a[1..2])).await;
    b.ack(ack_ids(&pulled)).await;
    b.modify_deadlines(ack_ids(&of_a[2..]), 60).await;
    b.pong_after_ping().await;
    drop((a, b));
    pubsub.advance_seconds(59);
    client
        .assert_nothing(&subscription, "three are acked, one is extended")
        .await;
    pubsub.advance_seconds(2);
    let last = client.receive(&subscription, 1).await;
    assert_eq!(texts(&last), texts(&of_a[2..]));
}

#[tokio::test]
async fn case_42_a_first_request_may_carry_acks() {
    let (pubsub, client, topic, subscription) = with_subscription().await;
    client.publish_text(&topic, "a").await;
    let pulled = client.receive(&subscription, 1).await;
    let first = StreamingPullRequest {
        ack_ids: ack_ids(&pulled),
        ..opening(&subscription)
    };
    let mut stream = client.open(first).await.expect("it opens");
    stream.pong_after_ping().await;
    pubsub.advance_seconds(11);
    stream.assert_no_message("it is acked").await;
}

#[tokio::test]
async fn case_43_a_streams_deadline_holds_for_what_is_delivered_later() {
    let (pubsub, client, topic, subscription) = with_subscription().await;
    let mut stream = client.stream(&subscription).await;
    client.publish_text(&topic, "at 10 s").await;
    stream.receive(1).await;
    stream
        .send(StreamingPullRequest {
            stream_ack_deadline_seconds: 60,
            ..Default::default()
        })
        .await;
    stream.pong().await;
    client.publish_text(&topic, "at 60 s").await;
    stream.receive(1).await;
    pubsub.advance_seconds(11);
    assert_eq!(texts(&stream.receive(1).await), ["at 10 s"]);
    pubsub.advance_seconds(48);
    stream.assert_no_message("59 and 48 of 60 s").await;
    pubsub.advance_seconds(2);
    assert_eq!(texts(&stream.receive(1).await), ["at 60 s"]);
}

#[tokio::test]
async fn case_43_a_streams_deadline_out_of_range_ends_it() {
    let (_pubsub, client, _topic, subscription) = with_subscription().await;
    for seconds in [9, 601, -1] {
        let mut stream = client.stream(&subscription).await;
        stream
            .send(StreamingPullRequest {
                stream_ack_deadline_seconds: seconds,
                ..Default::default()
            })
            .await;
        let what = format!("a deadline of {seconds}");
        stream.assert_ends(Code::InvalidArgument, &what).await;
    }
}

#[tokio::test]
async fn a_nack_on_a_stream_brings_the_message_back_at_once() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    let mut stream = client.stream(&subscription).await;
    client.publish_text(&topic, "a").await;
    for _ in 0..3 {
        let received = stream.receive(1).await;
        stream.modify_deadlines(ack_ids(&received), 0).await;
    }
    let received = stream.receive(1).await;
    stream.ack(ack_ids(&received)).await;
    stream.assert_no_message("it is acked").await;
}

#[tokio::test]
async fn undecodable_ack_ids_on_a_stream_are_ignored() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    let mut stream = client.stream(&subscription).await;
    stream.ack(vec!["garbage".to_owned()]).await;
    stream
        .modify_deadlines(vec!["garbage".to_owned()], 10)
        .await;
    client.publish_text(&topic, "a").await;
    let received = stream.receive(1).await;
    stream
        .ack([vec!["x".to_owned()], ack_ids(&received)].concat())
        .await;
    stream.assert_no_message("the good id was acked").await;
}

#[tokio::test]
async fn streams_on_missing_subscriptions_say_which_one() {
    let (_pubsub, client, _topic, _subscription) = with_subscription().await;
    let first = opening(&subscription_name("missing"));
    let status = match PullStream::open(client.subscriber(), first).await {
        Ok(mut stream) => stream.end().await,
        Err(status) => status,
    };
    assert!(status.message().contains("missing"), "{status:?}");
    let pull = client.subscription("worker", "projects/tests/topics/orders");
    let pull = pull.await;
    refused_with(
        client.get_subscription(&format!("{pull}-not")).await,
        Code::NotFound,
        "Resource not found (resource=worker-not).",
    );
    refused(
        client.get_subscription("worker").await,
        Code::InvalidArgument,
        "an id instead of a name",
    );
}
