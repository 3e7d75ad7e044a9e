//! A prefix belongs to one state store.

use std::time::Duration;

use rdkafka::mocking::MockCluster;
use tokio::task::spawn_blocking;

use super::{
    super::{KafkaLog, OpenError, Options, names, owner},
    TestTopics,
};
use crate::{
    resource::{id::TopicIncarnation, name::TopicName},
    store::{MessageLog as _, StoreError},
};

async fn open(options: Options) -> KafkaLog {
    KafkaLog::open(options).await.expect("open")
}

fn by_force(options: Options) -> Options {
    Options {
        claim_prefix: true,
        ..options
    }
}

/// The owner that a refusal names.
fn owner(claimed: Result<(), OpenError>) -> String {
    match claimed {
        Err(OpenError::Owned { owner, .. }) => owner,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_prefix_belongs_to_the_store_that_claimed_it_until_one_takes_it_over() {
    let topics = TestTopics::new();
    let log = open(topics.options()).await;
    log.claim("one").await.expect("free");
    assert_eq!(owner(log.claim("other").await), "one");
    let again = open(topics.options()).await;
    again.claim("one").await.expect("its own");
    let taking = open(by_force(topics.options())).await;
    taking.claim("other").await.expect("by force");
    assert_eq!(owner(again.claim("one").await), "other");
    again.claim("other").await.expect("its own");
    // Once it is taken, the flag that is still there takes nothing over.
    taking.claim("other").await.expect("its own");
}

#[tokio::test]
async fn of_two_that_claim_a_prefix_at_once_one_gets_it() {
    let topics = TestTopics::new();
    let (one, other) = (open(topics.options()).await, open(topics.options()).await);
    let claims = tokio::join!(one.claim("one"), other.claim("other"));
    let owner = match claims {
        (Ok(()), refused) => (owner(refused), "one"),
        (refused, Ok(())) => (owner(refused), "other"),
        both => panic!("{both:?}"),
    };
    assert_eq!(owner.0, owner.1);
}

#[tokio::test]
async fn prefixes_that_begin_alike_are_told_apart_by_force_only() {
    for inner_first in [true, false] {
        let topics = TestTopics::new();
        let (mut first, mut second) = (topics.options(), topics.options_within());
        if inner_first {
            (first, second) = (second, first);
        }
        let claimed = open(first.clone()).await.claim("first").await;
        claimed.expect("free");
        let refused = open(second.clone()).await.claim("second").await;
        let other = match refused {
            Err(OpenError::Nested { other, .. }) => other,
            other => panic!("not refused: {other:?}"),
        };
        assert_eq!(other, first.prefix);
        let forced = open(by_force(second.clone())).await.claim("second").await;
        forced.expect("by force");
        for (options, store) in [(first, "first"), (second, "second")] {
            let again = open(options).await.claim(store).await;
            again.expect("its own, for which nothing is asked again");
        }
    }
}

#[tokio::test]
async fn where_brokers_are_missing_for_the_copies_of_topics_the_prefix_is_claimed() {
    let topics = TestTopics::new();
    let log = open(Options {
        replication_factor: Some(99),
        ..topics.options()
    });
    log.await.claim("one").await.expect("claimed");
}

#[tokio::test]
async fn internal_topics_and_our_own_are_not_attached() {
    let topics = TestTopics::new();
    let log = open(topics.options()).await;
    log.claim("one").await.expect("free");
    let ours = format!("{}.__owner", topics.options().prefix);
    for name in ["__consumer_offsets", &ours] {
        let refused = log.attach(name).await;
        assert!(
            matches!(refused, Err(StoreError::Refused(_))),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn topics_of_another_system_are_not_attached() {
    let (ours, theirs) = (TestTopics::new(), TestTopics::new());
    let (log, other) = (ours.open().await, theirs.open().await);
    let name = TopicName::parse("name", "projects/shop/topics/orders").expect("valid");
    let made = other.create(TopicIncarnation(7), &name).await;
    let made = made.expect("made").name;
    let taken = log
        .attach(&made)
        .await
        .expect("nobody has claimed the prefix");
    assert_eq!(taken.map(|location| location.name), Some(made.clone()));
    other.claim("theirs").await.expect("free");
    let refused = log.attach(&made).await.expect_err("refused");
    let text = refused.to_string();
    assert!(matches!(refused, StoreError::Refused(_)), "{text}");
    let prefix = theirs.options().prefix;
    assert!(
        text.contains(&made) && text.contains(&format!("{prefix}.__owner")),
        "{text}"
    );
}

#[tokio::test]
async fn a_prefix_of_which_nobody_can_read_whose_it_is_is_refused_with_the_reason() {
    let mock = MockCluster::new(1).expect("a cluster");
    let options = Options {
        brokers: mock.bootstrap_servers(),
        ..TestTopics::new().options()
    };
    let topic = names::owner_topic(&options.prefix);
    mock.create_topic(&topic, 1, 1).expect("made");
    mock.partition_leader(&topic, 0, None).expect("no leader");
    let config = options.reader();
    let read = spawn_blocking(move || owner::read(&config, &topic, Duration::from_secs(1)));
    let error = read.await.expect("ended").expect_err("no broker has it");
    let text = owner::unread(&options.prefix, &error).to_string();
    for part in [&options.prefix, ".__owner", "no leader", "delete the topic"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let denied = StoreError::Denied("Kafka does not allow it".to_owned());
    let text = owner::unread("pb", &denied).to_string();
    assert!(
        text.contains("does not allow it") && text.contains("READ and DESCRIBE"),
        "{text}"
    );
}
