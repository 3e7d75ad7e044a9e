//! What every database does with rows of a newer release, and with rows that cannot be read.

use std::time::Duration;

use super::{
    State,
    positions::acquire,
    resources::{live_topic, project, subscribed},
};
use crate::{
    resource::requirement::DATA_VERSION,
    store::{StoreError, resources::UpdateError},
};

/// The data version of the release after this one.
const NEWER: u32 = DATA_VERSION + 1;

fn is_newer<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Newer { needs: NEWER, .. }))
}

fn is_newer_update<T>(result: &Result<T, UpdateError>) -> bool {
    matches!(
        result,
        Err(UpdateError::Store(StoreError::Newer { needs: NEWER, .. }))
    )
}

/// `run` runs statements on the database.
pub(in crate::store) async fn settings_of_a_newer_release_are_left_to_it(
    state: &dyn State,
    run: impl AsyncFn(&str),
) {
    let topic = live_topic(state, "projects/p/topics/top").await;
    let newer = subscribed(state, "projects/p/subscriptions/newer", &topic).await;
    let known = subscribed(state, "projects/p/subscriptions/known", &topic).await;
    run(&format!(
        "UPDATE subscriptions SET needs = {NEWER} WHERE name LIKE '%newer'"
    ))
    .await;
    assert!(is_newer(&state.acquire(newer.id).await));
    let found = state.subscription(&newer.subscription.name).await;
    let found = found.expect("get").expect("exists");
    let updated = state.update_subscription(&found, &found.subscription).await;
    assert!(is_newer_update(&updated));
    acquire(state, known.id).await;

    run(&format!("UPDATE topics SET needs = {NEWER}")).await;
    let found = state.topic(&topic.topic.name).await;
    let found = found.expect("publishing goes on").expect("is live");
    let updated = state.update_topic(&found, &found.topic).await;
    assert!(is_newer_update(&updated));

    run("UPDATE subscriptions SET needs = 1").await;
    let epoch = acquire(state, newer.id).await.epoch;
    assert_eq!(epoch, 1, "the owner's row was touched before");
}

/// `run` runs statements on the database.
pub(in crate::store) async fn a_row_that_cannot_be_read_fails_no_list(
    state: &dyn State,
    run: impl AsyncFn(&str),
) {
    let mut topics = Vec::new();
    for id in ["aaa", "bbb", "ccc", "ddd"] {
        let topic = live_topic(state, &format!("projects/p/topics/{id}")).await;
        subscribed(state, &format!("projects/p/subscriptions/{id}"), &topic).await;
        topics.push(topic);
    }
    for table in ["topics", "subscriptions"] {
        run(&format!(
            "UPDATE {table} SET config = '{{' WHERE name LIKE '%bbb';
            UPDATE {table} SET config = '{{}}', needs = {NEWER} WHERE name LIKE '%ccc'"
        ))
        .await;
    }
    let project = project("projects/p");
    // Not even where a page would end with such a row.
    for limit in [2, 9] {
        let listed = state.list_topics(&project, None, limit).await;
        let listed = listed.expect("listed");
        let names = listed.iter().map(|record| record.topic.name.id());
        assert_eq!(names.collect::<Vec<_>>(), ["aaa", "ddd"]);
        let listed = state.list_subscriptions(&project, None, limit).await;
        let listed = listed.expect("listed");
        let names = listed.iter().map(|record| record.subscription.name.id());
        assert_eq!(names.collect::<Vec<_>>(), ["aaa", "ddd"]);
    }
    let damaged = state.topic(&topics[1].topic.name).await;
    assert!(matches!(damaged, Err(StoreError::Damaged(_))));
    assert!(is_newer(&state.topic(&topics[2].topic.name).await));
    assert_eq!(state.logs().await.expect("logs").len(), 4);
    let needs = state.log_needs(topics[1].log.incarnation).await;
    let needs = needs.expect("needs").expect("exists");
    assert_eq!(needs.retention(), Duration::MAX);
}
