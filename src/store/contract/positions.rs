//! What every store of positions does.

use std::slice;

use bytes::Bytes;

use super::{
    State, contract,
    resources::{live_topic, subscribed, subscription_named},
};
use crate::{
    clock::{ManualClock, Timestamp},
    engine::change::{PartitionChange, PartitionState, RetainedRow, StoredChunk},
    resource::{
        id::SubscriptionId,
        name::SubscriptionName,
        subscription::{DeadLetterPolicy, Subscription},
    },
    store::{
        StoreError,
        positions::{Acquire, Acquired, Flush, FlushOutcome, ReadFrom, Retained},
        resources::CreateError,
    },
};

contract!(state on [memory, sqlite, postgres]: {
    a_deleted_subscription_is_gone_with_its_state,
    a_new_subscription_starts_where_it_was_told,
    changes_are_read_back_by_the_next_owner,
    a_stale_flush_fails_alone,
    one_flush_changes_many_subscriptions_each_in_its_own_rows,
    chunks_below_the_cursor_are_removed,
    a_newer_generation_replaces_chunks,
    retained_rows_outlive_the_cursor_and_end_with_the_generation,
    retained_rows_of_many_are_read_by_their_key,
    positions_are_read_without_taking_the_subscription_over,
    positions_of_many_are_read_piece_by_piece,
    what_may_have_dead_letters_and_nobody_delivers_is_found,
    a_closed_state_refuses,
});

pub(in crate::store) async fn one_subscription(state: &dyn State) -> SubscriptionId {
    let topic = live_topic(state, "projects/p/topics/top").await;
    subscribed(state, "projects/p/subscriptions/sub", &topic)
        .await
        .id
}

pub(in crate::store) async fn acquire(state: &dyn State, id: SubscriptionId) -> Acquired {
    match state.acquire(id).await.expect("acquire") {
        Acquire::Acquired(acquired) => acquired,
        other => panic!("not acquired: {other:?}"),
    }
}

/// All that is stored of its first partition.
pub(in crate::store) async fn position(
    state: &dyn State,
    subscription: SubscriptionId,
) -> Option<PartitionState> {
    let asked = ReadFrom {
        subscription,
        offset: 0,
    };
    let read = state.positions(&[asked], 0, u64::MAX, usize::MAX).await;
    read.expect("read").states.remove(&subscription)
}

pub(in crate::store) fn chunk(index: u64, done_after: u64, body: &'static [u8]) -> StoredChunk {
    StoredChunk {
        index,
        done_after,
        body: Bytes::from_static(body),
    }
}

pub(in crate::store) fn change(
    cursor: u64,
    put: Vec<StoredChunk>,
    delete: Vec<u64>,
) -> PartitionChange {
    PartitionChange {
        partition: 0,
        generation: 1,
        cursor,
        put,
        delete,
        retain: Vec::new(),
        release: Vec::new(),
    }
}

async fn flush(
    state: &dyn State,
    subscription: SubscriptionId,
    epoch: u64,
    change: PartitionChange,
) -> FlushOutcome {
    let flush = Flush {
        subscription,
        epoch,
        changes: vec![change],
    };
    state.flush(&[flush]).await.expect("flush")[0]
}

async fn what_may_have_dead_letters_and_nobody_delivers_is_found(
    state: &dyn State,
    _: &ManualClock,
) {
    let topic = live_topic(state, "projects/p/topics/top").await;
    let mut names = Vec::new();
    for (id, has_policy, has_state) in [
        ("aaa", true, true),
        ("bbb", true, false),
        ("ccc", false, true),
        ("ddd", true, true),
        ("eee", true, true),
    ] {
        let name = format!("projects/p/subscriptions/{id}");
        let mut subscription = subscription_named(&name, &topic.topic);
        subscription.dead_letter_policy = has_policy.then(|| DeadLetterPolicy {
            topic: topic.topic.name.clone(),
            max_delivery_attempts: 5,
        });
        let created = state.create_subscription(&topic.log, &subscription, &[(0, 0)]);
        let id = created.await.expect("created").id;
        if has_state {
            let owner = acquire(state, id).await;
            flush(
                state,
                id,
                owner.epoch,
                change(0, vec![chunk(0, 0, b"x")], vec![]),
            )
            .await;
            state.release(&[(id, owner.epoch)]).await.expect("released");
        }
        names.push(subscription.name);
    }
    let found = async |after, limit| state.unattended(after, limit).await.expect("found");
    let [first, _, _, fourth, last] = &names[..] else {
        panic!("five were made");
    };
    assert_eq!(
        found(None, 9).await,
        [first.clone(), fourth.clone(), last.clone()]
    );
    assert_eq!(found(Some(first), 1).await, slice::from_ref(fourth));
    assert_eq!(found(Some(last), 9).await, []);
    let read = state
        .subscription(first)
        .await
        .expect("read")
        .expect("it is there");
    let detached = Subscription {
        detached: true,
        ..read.subscription.clone()
    };
    let detach = state.update_subscription(&read, &detached).await;
    detach.expect("detached");
    assert_eq!(found(None, 9).await, [fourth.clone(), last.clone()]);
}

async fn a_deleted_subscription_is_gone_with_its_state(state: &dyn State, _: &ManualClock) {
    let id = one_subscription(state).await;
    let owner = acquire(state, id).await;
    let chunks = (0..3000).map(|index| chunk(index, 0, b"x")).collect();
    flush(state, id, owner.epoch, change(5, chunks, vec![])).await;
    let name = SubscriptionName::parse("name", "projects/p/subscriptions/sub");
    let name = name.expect("valid name");
    let deleted = state.delete_subscription(&name).await;
    assert_eq!(deleted.expect("delete"), Some(id));
    let deleted = state.delete_subscription(&name).await;
    assert_eq!(deleted.expect("delete"), None);
    assert_eq!(state.subscription(&name).await.expect("get"), None);
    let acquired = state.acquire(id).await.expect("acquire");
    assert!(matches!(acquired, Acquire::Gone), "{acquired:?}");
    assert_eq!(position(state, id).await, None);
    let late = flush(state, id, owner.epoch, change(9, vec![], vec![])).await;
    assert_eq!(late, FlushOutcome::Gone);
}

async fn a_new_subscription_starts_where_it_was_told(state: &dyn State, _: &ManualClock) {
    let id = one_subscription(state).await;
    let owner = acquire(state, id).await;
    assert_eq!(owner.partitions.len(), 1);
    let position = &owner.partitions[0];
    assert_eq!((position.partition, position.cursor), (0, 5));
    assert_eq!((position.generation, position.chunks.len()), (1, 0));
}

async fn changes_are_read_back_by_the_next_owner(state: &dyn State, _: &ManualClock) {
    let id = one_subscription(state).await;
    let first = acquire(state, id).await;
    let put = vec![chunk(0, 0, b"a"), chunk(3, 2, b"b"), chunk(1, 0, b"c")];
    let outcome = flush(state, id, first.epoch, change(7, put, vec![])).await;
    assert_eq!(outcome, FlushOutcome::Stored);
    let put = vec![chunk(3, 9, b"longer")];
    flush(state, id, first.epoch, change(8, put, vec![1, 200])).await;
    let second = acquire(state, id).await;
    assert!(second.epoch > first.epoch);
    let position = &second.partitions[0];
    assert_eq!(position.cursor, 8);
    assert_eq!(position.chunks, [chunk(0, 0, b"a"), chunk(3, 9, b"longer")]);
}

async fn a_stale_flush_fails_alone(state: &dyn State, _: &ManualClock) {
    let topic = live_topic(state, "projects/p/topics/top").await;
    let one = subscribed(state, "projects/p/subscriptions/one", &topic).await;
    let two = subscribed(state, "projects/p/subscriptions/two", &topic).await;
    let old = acquire(state, one.id).await;
    let current = acquire(state, two.id).await;
    acquire(state, one.id).await;
    let entry = |subscription, epoch| Flush {
        subscription,
        epoch,
        changes: vec![change(100, vec![chunk(0, 0, b"x")], vec![])],
    };
    let flushes = [
        entry(one.id, old.epoch),
        entry(two.id, current.epoch),
        entry(SubscriptionId(999), 1),
    ];
    let outcomes = state.flush(&flushes).await.expect("flush");
    assert_eq!(
        outcomes,
        [
            FlushOutcome::Stale,
            FlushOutcome::Stored,
            FlushOutcome::Gone
        ]
    );
    assert_eq!(acquire(state, one.id).await.partitions[0].cursor, 5);
    assert_eq!(acquire(state, two.id).await.partitions[0].cursor, 100);
}

async fn one_flush_changes_many_subscriptions_each_in_its_own_rows(
    state: &dyn State,
    _: &ManualClock,
) {
    let topic = live_topic(state, "projects/p/topics/top").await;
    let one = subscribed(state, "projects/p/subscriptions/one", &topic).await;
    let two = subscribed(state, "projects/p/subscriptions/two", &topic).await;
    let one = (one.id, acquire(state, one.id).await.epoch);
    let two = (two.id, acquire(state, two.id).await.epoch);
    let entry = |(subscription, epoch), change| Flush {
        subscription,
        epoch,
        changes: vec![change],
    };
    let many = || vec![chunk(1, 0, b""), chunk(2, 7, &[0, 255]), chunk(3, 0, b"x")];
    let flushes = [
        entry(one, change(300, many(), vec![])),
        entry(two, change(6, many(), vec![])),
        // A later change of the same subscription builds on the earlier one.
        entry(one, change(300, vec![chunk(2, 1, b"y")], vec![3])),
        entry(two, change(600, vec![], vec![])),
    ];
    let outcomes = state.flush(&flushes).await.expect("flush");
    assert_eq!(outcomes, [FlushOutcome::Stored; 4]);
    let first = acquire(state, one.0).await.partitions.remove(0);
    assert_eq!(first.cursor, 300);
    assert_eq!(first.chunks, [chunk(1, 0, b""), chunk(2, 1, b"y")]);
    let second = acquire(state, two.0).await.partitions.remove(0);
    assert_eq!(second.cursor, 600);
    assert_eq!(second.chunks, [chunk(2, 7, &[0, 255]), chunk(3, 0, b"x")]);
}

async fn chunks_below_the_cursor_are_removed(state: &dyn State, _: &ManualClock) {
    let id = one_subscription(state).await;
    let epoch = acquire(state, id).await.epoch;
    let put = (0..4).map(|index| chunk(index, 0, b"x")).collect();
    flush(state, id, epoch, change(5, put, vec![])).await;
    flush(state, id, epoch, change(2 * 256 + 1, vec![], vec![])).await;
    let owner = acquire(state, id).await;
    let left = owner.partitions[0].chunks.iter().map(|chunk| chunk.index);
    assert_eq!(left.collect::<Vec<_>>(), [2, 3]);
}

async fn a_newer_generation_replaces_chunks(state: &dyn State, _: &ManualClock) {
    let id = one_subscription(state).await;
    let epoch = acquire(state, id).await.epoch;
    let put = vec![chunk(0, 3, b"old"), chunk(9, 0, b"old")];
    flush(state, id, epoch, change(5, put, vec![])).await;
    let newer = PartitionChange {
        generation: 2,
        ..change(3, vec![chunk(0, 0, b"new")], vec![])
    };
    flush(state, id, epoch, newer).await;
    let position = acquire(state, id).await.partitions.remove(0);
    assert_eq!((position.generation, position.cursor), (2, 3));
    assert_eq!(position.chunks, [chunk(0, 0, b"new")]);
}

async fn positions_are_read_without_taking_the_subscription_over(
    state: &dyn State,
    _: &ManualClock,
) {
    let id = one_subscription(state).await;
    let owner = acquire(state, id).await;
    let put = vec![chunk(1, 2, b"x"), chunk(4, 0, b"y")];
    flush(state, id, owner.epoch, change(300, put.clone(), vec![])).await;
    let read = position(state, id).await.expect("a position");
    assert_eq!((read.cursor, &read.chunks), (300, &put));
    let still_owned = flush(state, id, owner.epoch, change(301, vec![], vec![])).await;
    assert_eq!(still_owned, FlushOutcome::Stored);
    assert_eq!(position(state, SubscriptionId(999)).await, None);
}

async fn positions_of_many_are_read_piece_by_piece(state: &dyn State, _: &ManualClock) {
    let topic = live_topic(state, "projects/p/topics/top").await;
    let mut ids = Vec::new();
    for (name, put) in [
        (
            "one",
            vec![chunk(0, 0, b"a"), chunk(4, 4, b"b"), chunk(9, 0, b"c")],
        ),
        (
            "two",
            vec![chunk(0, 0, b"d"), chunk(1, 0, b"e"), chunk(2, 0, b"f")],
        ),
    ] {
        let name = format!("projects/p/subscriptions/{name}");
        let id = subscribed(state, &name, &topic).await.id;
        let epoch = acquire(state, id).await.epoch;
        flush(state, id, epoch, change(5, put, vec![])).await;
        ids.push(id);
    }
    let read = async |offsets: [u64; 2], until, chunks_max| {
        let asked = ids.iter().zip(offsets);
        let asked: Vec<_> = asked
            .map(|(&subscription, offset)| ReadFrom {
                subscription,
                offset,
            })
            .collect();
        let read = state.positions(&asked, 0, until, chunks_max).await;
        let read = read.expect("read");
        let chunks = ids.iter().map(|id| {
            let chunks = read.states[id].chunks.iter();
            chunks.map(|chunk| chunk.index).collect::<Vec<_>>()
        });
        (read.complete_to, chunks.collect::<Vec<_>>())
    };
    for (offsets, until, chunks_max, expected) in [
        ([0, 0], 0, 9, (0, [vec![], vec![]])),
        ([0, 0], 2560, 9, (2560, [vec![0, 4, 9], vec![0, 1, 2]])),
        ([0, 0], 2600, 2, (512, [vec![0], vec![0, 1]])),
        ([512, 512], 2600, 2, (2816, [vec![0, 4, 9], vec![1, 2]])),
        ([1300, 512], 1301, 2, (1536, [vec![4], vec![1, 2]])),
        ([2560, 600], 2561, 1, (2816, [vec![9], vec![1, 2]])),
    ] {
        let expected = (expected.0, expected.1.to_vec());
        assert_eq!(
            read(offsets, until, chunks_max).await,
            expected,
            "{offsets:?}, {until}"
        );
    }
}

async fn a_closed_state_refuses(state: &dyn State, _: &ManualClock) {
    let topic = live_topic(state, "projects/p/topics/top").await;
    state.close().await;
    let read = state.topic(&topic.topic.name).await;
    assert!(matches!(read, Err(StoreError::Unavailable(_))));
    let write = state.create_topic(&topic.topic, None).await;
    assert!(matches!(
        write,
        Err(CreateError::Store(StoreError::Unavailable(_)))
    ));
}

pub(in crate::store) fn retained(key: u64, until: u64, body: &'static [u8]) -> RetainedRow {
    RetainedRow {
        key,
        until: Timestamp::from_millis(until),
        body: Bytes::from_static(body),
    }
}

async fn retained_rows_outlive_the_cursor_and_end_with_the_generation(
    state: &dyn State,
    _: &ManualClock,
) {
    let id = one_subscription(state).await;
    let epoch = acquire(state, id).await.epoch;
    let first = PartitionChange {
        retain: vec![retained(3, 50, b"three"), retained(u64::MAX >> 1, 60, b"")],
        ..change(10, vec![], vec![])
    };
    assert_eq!(flush(state, id, epoch, first).await, FlushOutcome::Stored);
    let second = PartitionChange {
        retain: vec![retained(3, 70, b"again"), retained(4, 80, b"four")],
        release: vec![u64::MAX >> 1, 99],
        ..change(100_000, vec![], vec![])
    };
    assert_eq!(flush(state, id, epoch, second).await, FlushOutcome::Stored);
    let acquired = acquire(state, id).await;
    assert_eq!(acquired.partitions[0].cursor, 100_000);
    let expected = [retained(3, 70, b"again"), retained(4, 80, b"four")];
    assert_eq!(acquired.partitions[0].retained, expected);

    let third = PartitionChange {
        generation: 2,
        retain: vec![retained(5, 90, b"five")],
        ..change(100_000, vec![], vec![])
    };
    let outcome = flush(state, id, acquired.epoch, third).await;
    assert_eq!(outcome, FlushOutcome::Stored);
    let acquired = acquire(state, id).await;
    assert_eq!(acquired.partitions[0].retained, [retained(5, 90, b"five")]);
}

async fn retained_rows_of_many_are_read_by_their_key(state: &dyn State, _: &ManualClock) {
    let topic = live_topic(state, "projects/p/topics/top").await;
    let mut ids = Vec::new();
    for (name, body) in [("one", b"1" as &[u8]), ("two", b"2"), ("other", b"3")] {
        let name = format!("projects/p/subscriptions/{name}");
        let id = subscribed(state, &name, &topic).await.id;
        let epoch = acquire(state, id).await.epoch;
        let first = PartitionChange {
            retain: vec![retained(3, 50, body), retained(u64::MAX >> 1, 60, b"")],
            ..change(10, vec![], vec![])
        };
        assert_eq!(flush(state, id, epoch, first).await, FlushOutcome::Stored);
        ids.push(id);
    }
    let read = async |subscriptions: &[SubscriptionId], partition, key| {
        let read = state.retained(subscriptions, partition, key).await;
        let mut read = read.expect("read");
        read.sort_unstable_by_key(|retained| retained.subscription);
        read
    };
    let of = |subscription, generation, row| Retained {
        subscription,
        generation,
        row,
    };
    let both = [
        of(ids[0], 1, retained(3, 50, b"1")),
        of(ids[1], 1, retained(3, 50, b"2")),
    ];
    let asked = [ids[1], SubscriptionId(999), ids[0]];
    assert_eq!(read(&asked, 0, 3).await, both);
    assert_eq!(read(&ids, 0, 4).await, []);
    assert_eq!(read(&ids, 1, 3).await, []);
    let last = [of(ids[2], 1, retained(u64::MAX >> 1, 60, b""))];
    assert_eq!(read(&ids[2..], 0, u64::MAX >> 1).await, last);

    // What a voided generation had is gone before it is removed.
    let epoch = acquire(state, ids[0]).await.epoch;
    let voided = PartitionChange {
        generation: 2,
        ..change(0, vec![], vec![])
    };
    assert_eq!(
        flush(state, ids[0], epoch, voided).await,
        FlushOutcome::Stored
    );
    assert_eq!(read(&ids[..1], 0, 3).await, []);
    let epoch = acquire(state, ids[0]).await.epoch;
    let newer = PartitionChange {
        generation: 2,
        retain: vec![retained(3, 90, b"new")],
        ..change(0, vec![], vec![])
    };
    assert_eq!(
        flush(state, ids[0], epoch, newer).await,
        FlushOutcome::Stored
    );
    let newer = [of(ids[0], 2, retained(3, 90, b"new"))];
    assert_eq!(read(&ids[..1], 0, 3).await, newer);
}
