//! Rows and nodes of another release.

use super::database::TestDatabase;
use crate::{
    resource::requirement::DATA_VERSION,
    store::{
        Membership as _,
        contract::newer::{
            a_row_that_cannot_be_read_fails_no_list, settings_of_a_newer_release_are_left_to_it,
        },
    },
};

#[tokio::test]
async fn settings_of_a_newer_release() {
    let database = TestDatabase::new().await;
    let node = database.open("one").await;
    settings_of_a_newer_release_are_left_to_it(&node, async |sql| database.run(sql).await).await;
}

#[tokio::test]
async fn rows_that_cannot_be_read() {
    let database = TestDatabase::new().await;
    let node = database.open("one").await;
    a_row_that_cannot_be_read_fails_no_list(&node, async |sql| database.run(sql).await).await;
}

#[tokio::test]
async fn a_node_of_an_older_release_is_named() {
    let database = TestDatabase::new().await;
    let one = database.open("one").await;
    let _two = database.open("two").await;
    assert_eq!(one.behind(DATA_VERSION).await.expect("known"), None);
    let both = one.behind(DATA_VERSION + 1).await.expect("known");
    assert_eq!(both.as_deref(), Some("one at one.example:8085"));
    let older = "UPDATE nodes SET version = 0 WHERE name = 'two'";
    database.run(older).await;
    let older = one.behind(1).await.expect("known");
    assert_eq!(older.as_deref(), Some("two at two.example:8085"));
}
