//! Pull: empty answers, waiting, sizes and cancelling.

use std::time::Duration;

use tokio::time::Instant;
use tonic::{Code, Request};

use crate::support::{
    Pubsub,
    admin::with_subscription,
    backlog::pull_request,
    ok, refused_with,
    values::{ack_ids, message, numbered, texts},
    within,
};

#[tokio::test]
async fn case_25_a_pull_that_does_not_wait_answers_empty() {
    let (_pubsub, client, _topic, subscription) = with_subscription().await;
    client
        .assert_nothing(&subscription, "nothing was published")
        .await;
}

#[tokio::test]
async fn case_25_a_pull_that_waits_answers_empty_before_its_clients_deadline() {
    let pubsub = Pubsub::on_system_clock().await;
    let client = pubsub.client();
    let topic = client.topic("orders").await;
    let subscription = client.subscription("orders-worker", &topic).await;
    let mut request = Request::new(pull_request(&subscription, 1, false));
    request.set_timeout(Duration::from_secs(2));
    let start = Instant::now();
    let answer = ok(client.subscriber().pull(request).await);
    assert!(answer.received_messages.is_empty());
    // The server leaves half a second of the two for the way back.
    assert!(start.elapsed() < Duration::from_secs(2));
    assert!(start.elapsed() > Duration::from_secs(1));
}

#[tokio::test]
async fn case_25_a_pull_without_a_client_deadline_ends_empty_after_its_longest_wait() {
    let (pubsub, client, _topic, subscription) = with_subscription().await;
    let waiting = tokio::spawn(async move {
        let mut subscriber = client.subscriber();
        subscriber.pull(pull_request(&subscription, 1, false)).await
    });
    let end = async {
        while !waiting.is_finished() {
            pubsub.advance_seconds(1);
            tokio::task::yield_now().await;
        }
        waiting.await.expect("the task ends")
    };
    let answer = ok(within("an empty answer", end).await);
    assert!(answer.received_messages.is_empty());
}

#[tokio::test]
async fn case_26_a_waiting_pull_gets_what_is_published() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    for number in 0..20 {
        let waiting = tokio::spawn({
            let (client, subscription) = (client.clone(), subscription.clone());
            async move { client.receive(&subscription, 1).await }
        });
        tokio::task::yield_now().await;
        client.publish_text(&topic, &number.to_string()).await;
        let received = within("the pull wakes", waiting).await.expect("it ends");
        assert_eq!(texts(&received), [number.to_string()]);
        ok(client.ack(&subscription, ack_ids(&received)).await);
    }
}

#[tokio::test]
async fn case_27_max_messages_bounds_an_answer() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    for _ in 0..3 {
        client.publish(&topic, &numbered(1000)).await;
    }
    let text = "You have passed an invalid argument to the service (argument=max_messages).";
    for max_messages in [0, -1, i32::MIN] {
        let request = pull_request(&subscription, max_messages, true);
        let answer = client.subscriber().pull(request).await;
        refused_with(answer, Code::InvalidArgument, text);
    }
    let mut left = 3000;
    for (max_messages, at_most) in [(1, 1), (1000, 1000), (5000, 1000), (i32::MAX, 1000)] {
        let received = client.receive_some(&subscription, max_messages).await;
        assert!((1..=at_most).contains(&received.len()), "{max_messages}");
        left -= received.len();
    }
    client.receive(&subscription, left).await;
    client
        .assert_nothing(&subscription, "all are outstanding")
        .await;
}

#[tokio::test]
async fn messages_come_oldest_first() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    for number in 0..10 {
        client.publish_text(&topic, &number.to_string()).await;
    }
    for number in 0..10 {
        let received = client.receive_one(&subscription).await;
        assert_eq!(received.text(), number.to_string());
    }
}

#[tokio::test]
async fn an_answer_stays_under_the_4_mib_that_clients_receive_by_default() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    for _ in 0..2 {
        let batch = vec![message(vec![b'x'; 900_000]); 8];
        client.publish(&topic, &batch).await;
    }
    let mut count = 0;
    while count < 16 {
        // The client of this call refuses a longer answer.
        let received = client.receive_some(&subscription, 1000).await;
        count += received.len();
    }
    assert_eq!(count, 16);
}

#[tokio::test]
async fn a_message_larger_than_4_mib_is_pulled_alone() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    client.publish_text(&topic, "small").await;
    client
        .publish(&topic, &[message(vec![b'x'; 6_000_000])])
        .await;
    client.publish_text(&topic, "small too").await;
    let request = pull_request(&subscription, 10, false);
    let mut subscriber = client.subscriber_of_big_messages();
    let mut sizes = Vec::new();
    while sizes.iter().sum::<usize>() < 3 {
        let answer = within("a message", subscriber.pull(request.clone())).await;
        let messages = ok(answer).received_messages;
        let big = messages.iter().any(|one| one.message.len() > 6_000_000);
        assert!(!big || messages.len() == 1, "the big one is not alone");
        sizes.push(messages.len());
    }
}

#[tokio::test]
async fn case_28_messages_of_a_cancelled_pull_are_not_lost() {
    let (pubsub, client, topic, subscription) = with_subscription().await;
    for number in 0..20 {
        let waiting = tokio::spawn({
            let (client, subscription) = (pubsub.another_client(), subscription.clone());
            async move {
                let request = pull_request(&subscription, 1, false);
                client.subscriber().pull(request).await
            }
        });
        tokio::task::yield_now().await;
        let text = number.to_string();
        let published = client.publish_text(&topic, &text);
        waiting.abort();
        published.await;
        // Delivered to the pull in its last moment, it comes back when that lease has ended.
        drop(waiting.await);
        pubsub.advance_seconds(11);
        let received = client.receive_and_ack(&subscription, 1).await;
        assert_eq!(texts(&received), [number.to_string()]);
    }
}
