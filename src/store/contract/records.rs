//! What every store of documents does.

use std::slice;

use bytes::Bytes;

use super::{State, contract, resources::project};
use crate::{
    clock::ManualClock,
    resource::requirement::DATA_VERSION,
    store::{
        StoreError,
        records::{Record, RecordKey, WriteError},
    },
};

contract!(state on [memory, sqlite, postgres]: {
    a_document_is_written_by_who_has_read_it,
    a_document_is_created_once,
    a_name_that_is_written_again_has_another_etag,
    a_document_of_a_newer_release_is_listed_and_not_replaced,
    documents_are_listed_by_kind_and_project_in_order_of_name,
    a_closed_store_refuses_documents,
});

fn key(kind: &'static str, project_name: &str, name: &str) -> RecordKey {
    RecordKey {
        kind: kind.into(),
        project: project(project_name),
        name: name.to_owned(),
    }
}

fn schema(name: &str) -> RecordKey {
    key("schema", "projects/p", name)
}

const BODY: Bytes = Bytes::from_static(b"one \0 two");

async fn created(state: &dyn State, key: &RecordKey) -> Record {
    let put = state.put_record(key, None, 1, &BODY).await;
    let found = state.record(key).await.expect("read").expect("exists");
    assert_eq!(put.expect("put"), found.etag);
    found
}

fn is_changed<T>(result: &Result<T, WriteError>) -> bool {
    matches!(result, Err(WriteError::Changed))
}

async fn a_document_is_written_by_who_has_read_it(state: &dyn State, _: &ManualClock) {
    let key = schema("sch");
    let first = created(state, &key).await;
    let body = Bytes::from_static(b"");
    let etag = state.put_record(&key, Some(&first), 1, &body).await;
    let second = Record {
        etag: etag.expect("put"),
        body,
        ..first.clone()
    };
    let found = state.record(&key).await.expect("read");
    assert_eq!(found.as_ref(), Some(&second));
    let late = state.put_record(&key, Some(&first), 1, &BODY).await;
    assert!(is_changed(&late));
    assert!(is_changed(&state.delete_record(&key, first.etag).await));
    assert_eq!(state.record(&key).await.expect("read"), found);
    let deleted = state.delete_record(&key, second.etag).await;
    deleted.expect("deleted");
    assert_eq!(state.record(&key).await.expect("read"), None);
    assert!(is_changed(&state.delete_record(&key, second.etag).await));
    let late = state.put_record(&key, Some(&second), 1, &BODY).await;
    assert!(is_changed(&late));
}

async fn a_document_is_created_once(state: &dyn State, _: &ManualClock) {
    let key = schema("sch");
    let first = created(state, &key).await;
    let again = state.put_record(&key, None, 1, &Bytes::new()).await;
    assert!(is_changed(&again));
    assert_eq!(state.record(&key).await.expect("read"), Some(first));
}

async fn a_name_that_is_written_again_has_another_etag(state: &dyn State, _: &ManualClock) {
    let key = schema("sch");
    let first = created(state, &key).await;
    let deleted = state.delete_record(&key, first.etag).await;
    deleted.expect("deleted");
    let second = created(state, &key).await;
    assert_ne!(first.etag, second.etag);
    assert!(is_changed(&state.delete_record(&key, first.etag).await));
    assert_ne!(created(state, &schema("other")).await.etag, second.etag);
}

async fn a_document_of_a_newer_release_is_listed_and_not_replaced(
    state: &dyn State,
    _: &ManualClock,
) {
    let key = schema("sch");
    let put = state.put_record(&key, None, DATA_VERSION + 1, &BODY).await;
    put.expect("put");
    let found = state.record(&key).await.expect("read").expect("exists");
    let listed = state.list_records("schema", &key.project, None, 9).await;
    assert_eq!(listed.expect("listed"), slice::from_ref(&found));
    let replaced = state.put_record(&key, Some(&found), 1, &BODY).await;
    let newer = matches!(
        replaced,
        Err(WriteError::Store(StoreError::Newer { needs, .. })) if needs == DATA_VERSION + 1
    );
    assert!(newer);
    assert_eq!(state.record(&key).await.expect("read"), Some(found));
}

async fn documents_are_listed_by_kind_and_project_in_order_of_name(
    state: &dyn State,
    _: &ManualClock,
) {
    for name in ["ccc", "aaa", "b~b", "bBb"] {
        created(state, &schema(name)).await;
    }
    for (kind, project, name) in [
        ("revision", "projects/p", "aab"),
        ("schema", "projects/p2", "aab"),
        ("schema", "projects/o", "aab"),
    ] {
        created(state, &key(kind, project, name)).await;
    }
    let names = async |after: Option<&str>, limit| {
        let project = project("projects/p");
        let listed = state.list_records("schema", &project, after, limit).await;
        let listed = listed.expect("listed").into_iter();
        listed
            .map(|record| {
                assert_eq!((record.body, record.needs), (BODY, 1));
                record.key.name
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(names(None, 9).await, ["aaa", "bBb", "b~b", "ccc"]);
    assert_eq!(names(None, 2).await, ["aaa", "bBb"]);
    assert_eq!(names(Some("bBb"), 9).await, ["b~b", "ccc"]);
    assert_eq!(names(Some("zzz"), 9).await, [""; 0]);
}

async fn a_closed_store_refuses_documents(state: &dyn State, _: &ManualClock) {
    state.close().await;
    let read = state.record(&schema("sch")).await;
    assert!(matches!(read, Err(StoreError::Unavailable(_))));
}
