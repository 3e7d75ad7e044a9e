//! Topics whose creation fails, is interrupted, or meets a deletion.

use std::sync::Arc;

use super::{World, message, unavailable};
use crate::{
    delivery::topic_logs::{self, Finished},
    resource::{id::TopicIncarnation, name::TopicName, topic::Topic},
    service::{StoreError, error::FindError},
    store::{
        MessageLog as _, Resources as _,
        log::TopicLog,
        resources::{TopicPhase, TopicRow},
    },
};

fn half() -> TopicName {
    TopicName::parse("name", "projects/p/topics/half").expect("valid")
}

async fn rows(world: &World) -> Vec<TopicRow> {
    world.state.logs().await.expect("rows")
}

async fn has_no_log(world: &World, row: &TopicRow) -> bool {
    let log = TopicLog {
        incarnation: row.incarnation,
        location: Arc::new(world.log.location(row.incarnation, &row.name)),
    };
    let bounds = world.log.bounds(&log).await;
    matches!(bounds, Err(StoreError::NoSuchLog))
}

#[tokio::test]
async fn a_topic_whose_creation_failed_halfway_is_there_for_the_next_that_creates_it() {
    for call in ["create", "publish_topic"] {
        let world = World::new().await;
        let name = half();
        // Undoing it fails too, if anybody tries.
        world.faults.fail(call, unavailable());
        world.faults.fail("delete", unavailable());
        let failed = world.service.create_topic(Topic::new(name.clone())).await;
        failed.expect_err("the store failed");
        let again = world.service.create_topic(Topic::new(name.clone())).await;
        let found = world.service.topic(&name).await;
        assert!(found.is_ok(), "{call}: {again:?}, then {found:?}");
    }
}

#[tokio::test]
async fn a_topic_that_could_not_be_made_leaves_no_row() {
    let world = World::new().await;
    let before = rows(&world).await;
    for error in [unavailable(), StoreError::Refused("never".to_owned())] {
        world.faults.fail("create", error);
        let failed = world.service.create_topic(Topic::new(half())).await;
        failed.expect_err("the store failed");
        assert_eq!(rows(&world).await, before);
    }
}

#[tokio::test]
async fn a_topic_that_cannot_be_finished_keeps_no_node_from_starting_and_can_be_deleted() {
    let mut world = World::new().await;
    let made = world.state.create_topic(&Topic::new(half()), None).await;
    made.expect("a row");
    for _ in 0..100 {
        let error = StoreError::Refused("never".to_owned());
        world.faults.fail("create", error);
    }
    world.restart().await;
    world.publish("served").await.expect("the other topic");
    let deleted = world.service.delete_topic(&half()).await;
    deleted.expect("it is there");
    assert_eq!(rows(&world).await.len(), 1);
    let again = world.service.delete_topic(&half()).await;
    assert!(
        matches!(again, Err(FindError::NotFound { .. })),
        "{again:?}"
    );
}

#[tokio::test]
async fn a_topic_that_is_deleted_while_it_is_made_leaves_nothing() {
    let world = World::new().await;
    let held = world.faults.hold("create");
    let service = Arc::clone(&world.service);
    let making = tokio::spawn(async move { service.create_topic(Topic::new(half())).await });
    held.done().await;
    let row = rows(&world).await.pop().expect("half made");
    let deleted = world.service.delete_topic(&half()).await;
    deleted.expect("it is there");
    held.release();
    making.await.expect("ends").expect_err("deleted meanwhile");
    assert_eq!(rows(&world).await.len(), 1);
    assert!(has_no_log(&world, &row).await);
}

#[tokio::test]
async fn a_topic_that_was_deleted_gets_no_log_from_those_who_finish_it_late() {
    let world = World::new().await;
    let made = world.service.create_topic(Topic::new(half())).await;
    made.expect("made");
    let live = rows(&world).await.pop().expect("a row");
    let late = TopicRow {
        phase: TopicPhase::Creating,
        location: None,
        ..live
    };
    let (state, log) = (world.state.as_ref(), world.log.as_ref());
    let finished = topic_logs::finish(state, log, &late).await;
    assert_eq!(finished.expect("live"), Finished::Live);
    let deleted = world.service.delete_topic(&half()).await;
    deleted.expect("deleted");
    let forgotten = async {
        while rows(&world).await.len() > 1 {
            tokio::task::yield_now().await;
        }
    };
    world.in_time(forgotten).await;
    let finished = topic_logs::finish(state, log, &late).await;
    assert_eq!(finished.expect("nothing to do"), Finished::Deleted);
    assert!(has_no_log(&world, &late).await);
}

/// As after the state was restored from a backup that is older than the log.
#[tokio::test]
async fn a_new_topic_does_not_take_the_log_of_one_that_the_store_has_forgotten() {
    let world = World::new().await;
    let known = rows(&world).await.pop().expect("a row").incarnation;
    let forgotten = TopicIncarnation(known.0 + 1);
    let location = world.log.create(forgotten, &half()).await.expect("a log");
    let log = TopicLog {
        incarnation: forgotten,
        location: Arc::new(location),
    };
    let messages = vec![message("of the one before")];
    world
        .log
        .append(&log, messages.into())
        .await
        .expect("append");
    let failed = world.service.create_topic(Topic::new(half())).await;
    failed.expect_err("its log is another topic's");
    let made = world.service.create_topic(Topic::new(half())).await;
    made.expect("with another log");
    let row = rows(&world).await.pop().expect("a row");
    assert!(row.incarnation > forgotten);
    let bounds = world.log.bounds(&log).await.expect("untouched");
    assert_eq!(bounds[0].end, 1);
}

#[tokio::test]
async fn a_topic_whose_creation_failed_halfway_is_finished_in_time() {
    let world = World::new().await;
    let name = half();
    world.faults.fail("publish_topic", unavailable());
    let failed = world.service.create_topic(Topic::new(name.clone())).await;
    failed.expect_err("the store failed");
    let found = async {
        while world.service.topic(&name).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    world.in_time(found).await;
}
