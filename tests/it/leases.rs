//! Leases: when they end, what changes them, and what comes after.

use packetboat::proto::google::pubsub::v1::{DeadLetterPolicy, Subscription};
use tonic::Code;

use crate::support::{
    Client, Pubsub,
    admin::{bare, with_subscription},
    ok, refused_with,
    values::{Received, numbered},
};

/// One message, pulled at the start of a lease of 10 s.
async fn leased() -> (Pubsub, Client, String, Received) {
    let (pubsub, client, topic, subscription) = with_subscription().await;
    client.publish_text(&topic, "a").await;
    let received = client.receive_one(&subscription).await;
    (pubsub, client, subscription, received)
}

#[tokio::test]
async fn case_29_a_lease_that_ends_brings_the_message_back_under_a_new_ack_id() {
    let (pubsub, client, subscription, first) = leased().await;
    pubsub.advance(std::time::Duration::from_millis(9_500));
    client.assert_nothing(&subscription, "9.5 of 10 s").await;
    pubsub.advance_seconds(1);
    let second = client.receive_one(&subscription).await;
    assert_eq!(second.message, first.message);
    assert_ne!(second.ack_id, first.ack_id);
    client
        .assert_nothing(&subscription, "it is leased again")
        .await;
}

#[tokio::test]
async fn case_29_a_message_comes_back_until_it_is_acked() {
    let (pubsub, client, subscription, _first) = leased().await;
    for _ in 0..20 {
        pubsub.advance_seconds(11);
        client.receive_one(&subscription).await;
    }
    pubsub.advance_seconds(11);
    client.receive_and_ack(&subscription, 1).await;
    pubsub.advance_seconds(11);
    client.assert_nothing(&subscription, "it is acked").await;
}

#[tokio::test]
async fn case_30_a_deadline_is_counted_from_its_last_change() {
    let (pubsub, client, subscription, received) = leased().await;
    let modify = async |seconds| {
        let ack_ids = vec![received.ack_id.clone()];
        ok(client
            .modify_deadline(&subscription, ack_ids, seconds)
            .await);
    };
    pubsub.advance_seconds(5);
    modify(20).await;
    pubsub.advance_seconds(19);
    client.assert_nothing(&subscription, "19 of 20 s").await;
    modify(600).await;
    pubsub.advance_seconds(599);
    client.assert_nothing(&subscription, "599 of 600 s").await;
    modify(1).await;
    modify(1).await;
    client.assert_nothing(&subscription, "0 of 1 s").await;
    pubsub.advance_seconds(2);
    client.receive_one(&subscription).await;
}

#[tokio::test]
async fn case_30_a_deadline_of_zero_brings_the_message_back_at_once() {
    let (_pubsub, client, subscription, received) = leased().await;
    let nack = client.modify_deadline(&subscription, vec![received.ack_id.clone()], 0);
    ok(nack.await);
    let again = client.receive_one(&subscription).await;
    assert_eq!(again.message, received.message);
    assert_ne!(again.ack_id, received.ack_id);
}

#[tokio::test]
async fn case_30_a_deadline_out_of_range_is_refused_and_changes_nothing() {
    let (pubsub, client, subscription, received) = leased().await;
    for seconds in [-1, 601, i32::MAX, i32::MIN] {
        let text = format!(
            "Invalid ack deadline given (ack_deadline={seconds}). The ack deadline must be between 0 and 600 seconds."
        );
        let ack_ids = vec![received.ack_id.clone()];
        let answer = client
            .modify_deadline(&subscription, ack_ids, seconds)
            .await;
        refused_with(answer, Code::InvalidArgument, &text);
    }
    pubsub.advance_seconds(9);
    client.assert_nothing(&subscription, "9 of 10 s").await;
    pubsub.advance_seconds(2);
    client.receive_one(&subscription).await;
}

#[tokio::test]
async fn case_30_a_change_of_one_lease_leaves_the_subscriptions_deadline_alone() {
    let (pubsub, client, subscription, received) = leased().await;
    let extend = client.modify_deadline(&subscription, vec![received.ack_id], 20);
    ok(extend.await);
    pubsub.advance_seconds(21);
    client.receive_one(&subscription).await;
    pubsub.advance_seconds(11);
    client.receive_one(&subscription).await;
}

#[tokio::test]
async fn case_30_a_deadline_set_with_an_ended_lease_has_no_effect() {
    let (pubsub, client, subscription, old) = leased().await;
    pubsub.advance_seconds(11);
    let new = client.receive_one(&subscription).await;
    for seconds in [0, 600] {
        let ack_ids = vec![old.ack_id.clone()];
        ok(client
            .modify_deadline(&subscription, ack_ids, seconds)
            .await);
    }
    client
        .assert_nothing(&subscription, "the newer lease stands")
        .await;
    pubsub.advance_seconds(11);
    let third = client.receive_one(&subscription).await;
    assert_ne!(third.ack_id, new.ack_id);
}

#[tokio::test]
async fn case_34_delivery_attempt_is_absent_without_a_dead_letter_policy() {
    let (_pubsub, client, subscription, mut received) = leased().await;
    for _ in 0..3 {
        assert_eq!(received.delivery_attempt, 0);
        let nack = client.modify_deadline(&subscription, vec![received.ack_id], 0);
        ok(nack.await);
        received = client.receive_one(&subscription).await;
    }
}

#[tokio::test]
async fn case_34_attempts_count_nacks_and_expiries_while_there_is_a_policy() {
    let (pubsub, client, topic, subscription) = with_subscription().await;
    let dead = client.topic("dead").await;
    let set = async |dead_letter_policy| {
        let changed = Subscription {
            dead_letter_policy,
            ..bare(&subscription, &topic)
        };
        let paths = ["dead_letter_policy"];
        ok(client.update_subscription(changed, &paths).await);
    };
    set(Some(DeadLetterPolicy {
        dead_letter_topic: dead,
        max_delivery_attempts: 9,
    }))
    .await;
    client.publish_text(&topic, "a").await;
    for attempt in 1..=5 {
        let received = client.receive_one(&subscription).await;
        assert_eq!(received.delivery_attempt, attempt);
        if attempt == 4 {
            pubsub.advance_seconds(11);
        } else {
            let nack = client.modify_deadline(&subscription, vec![received.ack_id], 0);
            ok(nack.await);
        }
    }
    set(None).await;
    let received = client.receive_one(&subscription).await;
    assert_eq!(received.delivery_attempt, 0);
}

#[tokio::test]
async fn a_nack_in_the_middle_holds_up_no_other_message() {
    let (_pubsub, client, topic, subscription) = with_subscription().await;
    client.publish(&topic, &numbered(10)).await;
    let mut received = client.receive(&subscription, 10).await;
    let nacked = received.remove(4);
    let nack = client.modify_deadline(&subscription, vec![nacked.ack_id], 0);
    ok(nack.await);
    let acks = received.into_iter().map(|one| one.ack_id).collect();
    ok(client.ack(&subscription, acks).await);
    let again = client.receive_and_ack(&subscription, 1).await;
    assert_eq!(again[0].message, nacked.message);
    client.assert_nothing(&subscription, "all is acked").await;
}
