//! How a stream ends: by its client's mistake, and for each cause on the server's side.

use packetboat::proto::google::pubsub::v1::StreamingPullRequest;
use tonic::Code;

use crate::support::{
    Pubsub,
    admin::with_subscription,
    ok,
    values::{ack_ids, numbered, texts},
};

#[tokio::test]
async fn case_41_what_only_a_first_request_may_say_ends_the_stream_later() {
    let (_pubsub, client, _topic, subscription) = with_subscription().await;
    let empty = StreamingPullRequest::default();
    let again = [
        StreamingPullRequest {
            subscription: subscription.clone(),
            ..empty.clone()
        },
        StreamingPullRequest {
            max_outstanding_messages: 10,
            ..empty.clone()
        },
        StreamingPullRequest {
            max_outstanding_bytes: 10,
            ..empty.clone()
        },
        StreamingPullRequest {
            protocol_version: 1,
            ..empty
        },
    ];
    for request in again {
        let mut stream = client.stream(&subscription).await;
        let what = format!("{request:?}");
        stream.send(request).await;
        stream.assert_ends(Code::InvalidArgument, &what).await;
    }
}

#[tokio::test]
async fn case_41_deadlines_that_do_not_match_their_ack_ids_end_the_stream() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    client.publish(&topic, &numbered(2)).await;
    let held = client.receive(&subscription, 2).await;
    let lists = [
        (ack_ids(&held), vec![10]),
        (ack_ids(&held[..1]), vec![10, 10]),
        (ack_ids(&held), vec![]),
        (vec![], vec![10]),
    ];
    for (modify_deadline_ack_ids, modify_deadline_seconds) in lists {
        let mut stream = client.stream(&subscription).await;
        let what = format!("{modify_deadline_seconds:?}");
        stream
            .send(StreamingPullRequest {
                modify_deadline_seconds,
                modify_deadline_ack_ids,
                ..Default::default()
            })
            .await;
        stream.assert_ends(Code::InvalidArgument, &what).await;
    }
}

#[tokio::test]
async fn case_41_a_deadline_out_of_range_ends_the_stream_with_the_text() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    client.publish_text(&topic, "a").await;
    let held = client.receive(&subscription, 1).await;
    for seconds in [-1, 601] {
        let mut stream = client.stream(&subscription).await;
        stream.modify_deadlines(ack_ids(&held), seconds).await;
        let status = stream
            .assert_ends(Code::InvalidArgument, "a deadline")
            .await;
        let text = format!(
            "Invalid ack deadline given (ack_deadline={seconds}). The ack deadline must be between 0 and 600 seconds."
        );
        assert_eq!(status.message(), text);
    }
}

#[tokio::test]
async fn case_44_deleting_the_subscription_ends_its_streams_with_not_found() {
    let (pubsub, client, _topic, subscription) = with_subscription().await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(pubsub.another_client().stream(&subscription).await);
    }
    ok(client.delete_subscription(&subscription).await);
    for mut stream in streams {
        stream
            .assert_ends(Code::NotFound, "a deleted subscription")
            .await;
    }
}

#[tokio::test]
async fn case_44_detaching_the_subscription_ends_its_streams_with_failed_precondition() {
    let (_pubsub, client, _topic, subscription) = with_subscription().await;
    let mut stream = client.stream(&subscription).await;
    ok(client.detach(&subscription).await);
    stream
        .assert_ends(Code::FailedPrecondition, "detached")
        .await;
}

#[tokio::test]
async fn case_44_a_stopping_server_ends_streams_with_unavailable() {
    let directory = tempfile::tempdir().expect("a directory");
    let pubsub = Pubsub::in_directory(directory.path(), std::time::Duration::ZERO).await;
    let client = pubsub.client();
    let topic = client.topic("orders").await;
    let subscription = client.subscription("orders-worker", &topic).await;
    let mut stream = client.stream(&subscription).await;
    client.publish_text(&topic, "a").await;
    let received = stream.receive(1).await;
    let stopping = tokio::spawn(pubsub.stop());
    let status = stream.assert_ends(Code::Unavailable, "a stop").await;
    // Go and Java stop retrying on this text.
    assert!(!status.message().contains("shutdownNow"), "{status:?}");
    stopping.await.expect("it stops");

    let after = std::time::Duration::from_secs(11);
    let pubsub = Pubsub::in_directory(directory.path(), after).await;
    let mut stream = pubsub.client().stream(&subscription).await;
    assert_eq!(texts(&stream.receive(1).await), texts(&received));
}

#[tokio::test]
async fn case_44_a_half_close_ends_the_stream_with_ok() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    let mut stream = client.stream(&subscription).await;
    client.publish_text(&topic, "a").await;
    let received = stream.receive(1).await;
    stream.ack(ack_ids(&received)).await;
    stream.half_close();
    stream.assert_ends(Code::Ok, "a half-close").await;
    client
        .assert_nothing(&subscription, "the ack was taken")
        .await;
}

#[tokio::test]
async fn one_streams_mistake_does_not_end_another_on_its_connection() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    let mut good = client.stream(&subscription).await;
    let mut bad = client.stream(&subscription).await;
    bad.send(StreamingPullRequest {
        stream_ack_deadline_seconds: 1,
        ..Default::default()
    })
    .await;
    bad.assert_ends(Code::InvalidArgument, "a deadline of 1 s")
        .await;
    client.publish_text(&topic, "a").await;
    assert_eq!(texts(&good.receive(1).await), ["a"]);
}
