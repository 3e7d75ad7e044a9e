//! Acknowledge: what an ack id is good for, and for how long.

use tonic::Code;

use crate::support::{
    admin::with_subscription,
    ok, refused, refused_with,
    values::{ack_ids, numbered},
};

#[tokio::test]
async fn an_acked_message_does_not_come_back() {
    let (pubsub, client, topic, subscription) = with_subscription().await;
    client.publish(&topic, &numbered(100)).await;
    client.receive_and_ack(&subscription, 100).await;
    pubsub.advance_seconds(3600);
    client.assert_nothing(&subscription, "all is acked").await;
}

#[tokio::test]
async fn case_31_an_ack_after_the_deadline_and_before_a_redelivery_counts() {
    let (pubsub, client, topic, subscription) = with_subscription().await;
    client.publish_text(&topic, "a").await;
    let late = client.receive(&subscription, 1).await;
    pubsub.advance_seconds(11);
    ok(client.ack(&subscription, ack_ids(&late)).await);
    client.assert_nothing(&subscription, "it is acked").await;
    pubsub.advance_seconds(11);
    client.assert_nothing(&subscription, "it is acked").await;
}

#[tokio::test]
async fn case_31_an_ack_may_be_repeated() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    client.publish_text(&topic, "a").await;
    let received = client.receive(&subscription, 1).await;
    ok(client.ack(&subscription, ack_ids(&received)).await);
    ok(client.ack(&subscription, ack_ids(&received)).await);
    let twice = [ack_ids(&received), ack_ids(&received)].concat();
    ok(client.ack(&subscription, twice).await);
    client.assert_nothing(&subscription, "it is acked").await;
}

#[tokio::test]
async fn case_31_an_ack_id_of_an_earlier_delivery_is_accepted() {
    let (pubsub, client, topic, subscription) = with_subscription().await;
    client.publish_text(&topic, "a").await;
    let first = client.receive(&subscription, 1).await;
    pubsub.advance_seconds(11);
    client.receive(&subscription, 1).await;
    ok(client.ack(&subscription, ack_ids(&first)).await);
    pubsub.advance_seconds(11);
    client
        .assert_nothing(
            &subscription,
            "the earlier delivery's ack ended the newer lease",
        )
        .await;
}

#[tokio::test]
async fn case_32_a_request_needs_an_ack_id() {
    let (_pubsub, client, _topic, subscription) = with_subscription().await;
    let text = "You have not specified an ack ID in the request.";
    let answer = client.ack(&subscription, vec![]).await;
    refused_with(answer, Code::InvalidArgument, text);
    let answer = client.modify_deadline(&subscription, vec![], 10).await;
    refused_with(answer, Code::InvalidArgument, text);
}

#[tokio::test]
async fn case_32_one_undecodable_ack_id_refuses_the_whole_request() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    client.publish(&topic, &numbered(1)).await;
    let received = client.receive(&subscription, 1).await;
    for bad in ["x", ""] {
        let text = format!("You have passed an invalid ack ID to the service (ack_id={bad}).");
        let mixed = vec![received[0].ack_id.clone(), bad.to_owned()];
        let answer = client.ack(&subscription, mixed.clone()).await;
        refused_with(answer, Code::InvalidArgument, &text);
        let answer = client.modify_deadline(&subscription, mixed, 0).await;
        refused_with(answer, Code::InvalidArgument, &text);
    }
    client
        .assert_nothing(&subscription, "the nack was not applied")
        .await;
    let nack = client.modify_deadline(&subscription, ack_ids(&received), 0);
    ok(nack.await);
    client.receive_and_ack(&subscription, 1).await;
}

#[tokio::test]
async fn case_32_an_ack_id_of_another_subscription_has_no_effect() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    let other = client.subscription("another", &topic).await;
    client.publish_text(&topic, "a").await;
    let of_other = client.receive(&other, 1).await;
    ok(client.ack(&subscription, ack_ids(&of_other)).await);
    let modify = client.modify_deadline(&subscription, ack_ids(&of_other), 0);
    ok(modify.await);
    client.assert_nothing(&other, "its lease stands").await;
    client.receive_and_ack(&subscription, 1).await;
    ok(client.ack(&other, ack_ids(&of_other)).await);
    client.assert_nothing(&other, "it is acked").await;
}

#[tokio::test]
async fn case_32_an_ack_id_of_a_deleted_life_has_no_effect_on_the_new_one() {
    let (pubsub, client, topic, subscription) = with_subscription().await;
    client.publish_text(&topic, "old").await;
    let old = client.receive(&subscription, 1).await;
    ok(client.delete_subscription(&subscription).await);
    client.subscription("orders-worker", &topic).await;
    client.publish_text(&topic, "new").await;
    ok(client.ack(&subscription, ack_ids(&old)).await);
    let new = client.receive(&subscription, 1).await;
    ok(client.ack(&subscription, ack_ids(&old)).await);
    pubsub.advance_seconds(11);
    let again = client.receive_and_ack(&subscription, 1).await;
    assert_eq!(again[0].message, new[0].message);
}

#[tokio::test]
async fn case_33_two_thousand_five_hundred_ids_fit_into_one_request() {
    let (pubsub, client, topic, subscription) = with_subscription().await;
    for count in [1000, 1000, 500] {
        client.publish(&topic, &numbered(count)).await;
    }
    let received = client.receive(&subscription, 2500).await;
    for one in &received {
        assert!(one.ack_id.len() <= 170, "{}", one.ack_id);
        let url_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~=:".contains(&byte);
        assert!(one.ack_id.bytes().all(url_safe), "{}", one.ack_id);
    }
    let extend = client.modify_deadline(&subscription, ack_ids(&received), 20);
    ok(extend.await);
    ok(client.ack(&subscription, ack_ids(&received)).await);
    pubsub.advance_seconds(21);
    client.assert_nothing(&subscription, "all is acked").await;
}

#[tokio::test]
async fn case_33_a_request_over_512_kib_is_refused() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    client.publish_text(&topic, "a").await;
    let received = client.receive(&subscription, 1).await;
    let count = 512 * 1024 / received[0].ack_id.len() + 1;
    let many = vec![received[0].ack_id.clone(); count];
    let text = "Request payload size exceeds the limit: 524288 bytes.";
    let answer = client.ack(&subscription, many.clone()).await;
    refused_with(answer, Code::InvalidArgument, text);
    let answer = client.modify_deadline(&subscription, many, 0).await;
    refused_with(answer, Code::InvalidArgument, text);
    client
        .assert_nothing(&subscription, "nothing was applied")
        .await;
}

#[tokio::test]
async fn acks_on_a_missing_subscription_are_not_found() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    client.publish_text(&topic, "a").await;
    let received = client.receive(&subscription, 1).await;
    let missing = "projects/tests/subscriptions/missing";
    let answer = client.ack(missing, ack_ids(&received)).await;
    refused(answer, Code::NotFound, "an ack");
    let answer = client.modify_deadline(missing, ack_ids(&received), 0).await;
    refused(answer, Code::NotFound, "a nack");
}
